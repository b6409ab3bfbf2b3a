//! Poolings against plain loops in double precision.

use crate::support::{assert_close, buffer, cpu, normals, on_gpu, values};
use xbm_fast::device::{NumberFormat, Span, SpanMut, Storage};
use xbm_fast::ops::pool::{GlobalPooling, Pool, PoolGeometry};

/// A maximum is exact, a gradient is the sum of at most four numbers.
const FOUR_ROUNDINGS: f64 = 3e-7;
/// Sum of some thousand numbers.
const SUMS: f64 = 5e-6;

/// Even and odd sides, sides of one, more rows than one strip, channels that fill no vector.
const SHAPES: [[usize; 4]; 7] =
    [[1, 1, 1, 1], [2, 2, 3, 5], [1, 1, 9, 16], [3, 8, 1, 3], [2, 35, 7, 17], [1, 33, 34, 64], [2, 16, 16, 32]];

fn geometry([batch, height, width, channels]: [usize; 4]) -> PoolGeometry {
    PoolGeometry { batch, height, width, channels }
}

/// Values on a coarse grid, so that windows have several equal maxima.
fn tied(name: &str, len: usize) -> Vec<f32> {
    normals(name, len).iter().map(|value| (value * 2.0).round() / 2.0).collect()
}

/// Position of the first maximum of every window, `(batch, out_height, out_width, channels)`, as an index of the input.
fn max_pool_winners(geometry: &PoolGeometry, input: &[f32]) -> Vec<usize> {
    let PoolGeometry { batch, height, width, channels } = *geometry;
    let mut winners = Vec::new();
    for image in 0..batch {
        for row in 0..geometry.out_height() {
            for column in 0..geometry.out_width() {
                for channel in 0..channels {
                    let mut winner = None;
                    for y in (2 * row).saturating_sub(1)..(2 * row + 2).min(height) {
                        for x in (2 * column).saturating_sub(1)..(2 * column + 2).min(width) {
                            let at = ((image * height + y) * width + x) * channels + channel;
                            if winner.is_none_or(|winner: usize| input[at] > input[winner]) {
                                winner = Some(at);
                            }
                        }
                    }
                    winners.push(winner.expect("a window has at least one position"));
                }
            }
        }
    }
    winners
}

/// Position of the first maximum of every channel, `(batch, channels)`, as an index of the input.
fn global_winners(geometry: &PoolGeometry, input: &[f32]) -> Vec<usize> {
    let positions = geometry.height * geometry.width;
    let mut winners = Vec::new();
    for image in 0..geometry.batch {
        for channel in 0..geometry.channels {
            let at = |position: usize| (image * positions + position) * geometry.channels + channel;
            winners.push((0..positions).map(at).fold(at(0), |best, next| if input[next] > input[best] { next } else { best }));
        }
    }
    winners
}

fn scatter(winners: &[usize], gradient: &[f32], len: usize) -> Vec<f64> {
    let mut input_gradient = vec![0.0; len];
    for (&winner, &gradient) in winners.iter().zip(gradient) {
        input_gradient[winner] += f64::from(gradient);
    }
    input_gradient
}

fn max_pool<B: Pool>(backend: &B, geometry: &PoolGeometry, input: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (input_len, output_len) = (geometry.input_len(), geometry.output_len());
    let (input, gradient) = (buffer(backend, input), buffer(backend, gradient));
    let (mut output, mut input_gradient) =
        (buffer(backend, &vec![f32::NAN; output_len]), buffer(backend, &vec![f32::NAN; input_len]));
    let input = Span::new(&input, 0, input_len);
    backend.max_pool_forward(geometry, input, SpanMut::new(&mut output, 0, output_len)).unwrap();
    let gradient = Span::new(&gradient, 0, output_len);
    backend.max_pool_backward(geometry, input, gradient, SpanMut::new(&mut input_gradient, 0, input_len)).unwrap();
    (values(backend, &output, output_len), values(backend, &input_gradient, input_len))
}

fn global_pool<B: Pool>(
    backend: &B,
    geometry: &PoolGeometry,
    pooling: GlobalPooling,
    input: &[f32],
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let (input_len, output_len) = (geometry.input_len(), geometry.batch * geometry.channels);
    let (input, gradient) = (buffer(backend, input), buffer(backend, gradient));
    let (mut output, mut input_gradient) =
        (buffer(backend, &vec![f32::NAN; output_len]), buffer(backend, &vec![f32::NAN; input_len]));
    let input = Span::new(&input, 0, input_len);
    backend.global_pool_forward(geometry, pooling, input, SpanMut::new(&mut output, 0, output_len)).unwrap();
    let (gradient, result) = (Span::new(&gradient, 0, output_len), SpanMut::new(&mut input_gradient, 0, input_len));
    backend.global_pool_backward(geometry, pooling, input, gradient, result).unwrap();
    (values(backend, &output, output_len), values(backend, &input_gradient, input_len))
}

fn max_pool_agrees_with_loops<B: Pool>(backend: &B) {
    for shape in SHAPES {
        let geometry = geometry(shape);
        let (input, gradient) = (tied("input", geometry.input_len()), normals("gradient", geometry.output_len()));
        let (output, input_gradient) = max_pool(backend, &geometry, &input, &gradient);
        let winners = max_pool_winners(&geometry, &input);
        assert_eq!(output, winners.iter().map(|&winner| input[winner]).collect::<Vec<_>>(), "{shape:?}");
        assert_close("input gradient", &input_gradient, &scatter(&winners, &gradient, geometry.input_len()), FOUR_ROUNDINGS);
    }
}

fn global_pools_agree_with_loops<B: Pool>(backend: &B) {
    for shape in SHAPES {
        let geometry = geometry(shape);
        let (input, gradient) = (tied("input", geometry.input_len()), normals("gradient", geometry.batch * geometry.channels));
        let winners = global_winners(&geometry, &input);
        let (output, input_gradient) = global_pool(backend, &geometry, GlobalPooling::Max, &input, &gradient);
        assert_eq!(output, winners.iter().map(|&winner| input[winner]).collect::<Vec<_>>(), "{shape:?}");
        assert_close("gradient of max", &input_gradient, &scatter(&winners, &gradient, geometry.input_len()), FOUR_ROUNDINGS);

        let (output, input_gradient) = global_pool(backend, &geometry, GlobalPooling::Avg, &input, &gradient);
        let image_len = geometry.height * geometry.width * geometry.channels;
        let share = 1.0 / (geometry.height * geometry.width) as f64;
        let (mut mean, mut spread) = (vec![0.0; gradient.len()], Vec::new());
        for (index, &value) in input.iter().enumerate() {
            let at = index / image_len * geometry.channels + index % geometry.channels;
            mean[at] += f64::from(value) * share;
            spread.push(f64::from(gradient[at]) * share);
        }
        assert_close("mean", &output, &mean, SUMS);
        assert_close("gradient of mean", &input_gradient, &spread, FOUR_ROUNDINGS);
    }
}

#[test]
fn max_pooling_takes_the_first_of_equal_maxima() {
    max_pool_agrees_with_loops(&cpu(1));
}

#[test]
fn global_pooling_takes_means_and_first_maxima() {
    global_pools_agree_with_loops(&cpu(1));
}

#[test]
fn two_threads_give_the_same_bits_as_one() {
    let (one, two) = (cpu(1), cpu(2));
    for shape in SHAPES {
        let geometry = geometry(shape);
        let (input, gradient) = (tied("input", geometry.input_len()), normals("gradient", geometry.output_len()));
        assert_eq!(max_pool(&one, &geometry, &input, &gradient), max_pool(&two, &geometry, &input, &gradient));
        let gradient = &normals("gradient", geometry.batch * geometry.channels);
        for pooling in [GlobalPooling::Avg, GlobalPooling::Max] {
            assert_eq!(
                global_pool(&one, &geometry, pooling, &input, gradient),
                global_pool(&two, &geometry, pooling, &input, gradient)
            );
        }
    }
}

#[test]
fn negative_values_win_over_the_padding() {
    let geometry = geometry([1, 3, 3, 2]);
    let input: Vec<f32> = (0..18).map(|index| -1.0 - index as f32).collect();
    let (output, input_gradient) = max_pool(&cpu(1), &geometry, &input, &[1.0; 8]);
    assert_eq!(output, [-1.0, -2.0, -3.0, -4.0, -7.0, -8.0, -9.0, -10.0]);
    assert_eq!(input_gradient.iter().filter(|&&gradient| gradient == 1.0).count(), 8);
}

#[test]
fn wrong_lengths_are_refused() {
    let backend = cpu(1);
    let geometry = geometry([1, 4, 4, 3]);
    let zeros = |len| backend.zeros(len, NumberFormat::Full).unwrap();
    let (input, short, mut output) = (zeros(48), zeros(47), zeros(12));
    assert!(backend.max_pool_forward(&geometry, Span::all(&input), SpanMut::all(&mut output)).is_ok());
    let error = backend.max_pool_forward(&geometry, Span::all(&short), SpanMut::all(&mut output)).unwrap_err();
    assert_eq!(error.to_string(), "max pool input: expected 48 values, found 47 values");
    let error =
        backend.global_pool_forward(&geometry, GlobalPooling::Avg, Span::all(&input), SpanMut::all(&mut output)).unwrap_err();
    assert_eq!(error.to_string(), "global pool output: expected 3 values, found 12 values");
    let empty = PoolGeometry { height: 0, ..geometry };
    assert!(backend.max_pool_forward(&empty, Span::all(&zeros(0)), SpanMut::all(&mut zeros(0))).is_err());
}

#[test]
fn poolings_on_a_gpu_agree_with_loops() {
    on_gpu(|cuda| {
        max_pool_agrees_with_loops(cuda);
        global_pools_agree_with_loops(cuda);
    });
}
