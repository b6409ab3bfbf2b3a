# The program on the CPU, from this repository alone: docker build -t xbm-fast .
# docker run --rm -v "$PWD:/work" -w /work xbm-fast train --data folder:photos
# For a GPU, take a CUDA runtime image in the place of the second one and run with the host's driver.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin xbm-fast

FROM debian:bookworm-slim
COPY --from=build /source/target/release/xbm-fast /usr/local/bin/xbm-fast
# Pictures and runs belong to whoever owns the folder: docker run --user "$(id -u):$(id -g)".
ENTRYPOINT ["xbm-fast"]
CMD ["--help"]
