// From 8-bit RGB images of any size to network input: crop, antialiased bilinear resize, flip and normalisation in one pass.
//
// The filter is Pillow's: a triangle stretched by the reduction factor, its weights summing to one, limited to the crop unless the
// crop sees its surroundings. Nothing is rounded between the two axes, and neither a resized nor a cropped image is stored.
// One thread makes one pixel. Single precision throughout: a position is a whole pixel and a rest, so that weights far into a large
// image are as exact as at its start. Any sizes below 65,536. Bound by bytes: the crops' pixels from cache, 6 bytes a written 16-bit pixel.
#include "device/device.cuh"

constexpr unsigned THREADS = 256;
constexpr int CHANNELS = 3;

struct AugmentImage {
  uint64_t offset;      // of the first byte, from `pixels` on
  uint32_t height, width;
  float top, left, crop_height, crop_width;
  uint32_t sees_surroundings, flip;
};

struct AugmentParams {
  uint64_t pixels;      // address, or 0 where offsets are addresses: images may lie anywhere
  const AugmentImage* images;
  void* output;         // (images, size, size, 3)
  uint32_t count, size;
};

// The source pixels of one output pixel along one axis.
struct Taps {
  int first, end;
  float start;             // from the filter's centre to that of the first pixel
  float inverse_support;
  float normaliser;
};

// Of the tap that is `tap` pixels after the first.
DEVICE float tap_weight(const Taps& taps, float tap) {
  const float weight = 1.0f - fabsf(taps.start + tap) * taps.inverse_support;
  return weight > 0.0f ? weight : 0.0f;
}

DEVICE Taps taps_of(float start, float length, uint32_t available, bool sees_surroundings, uint32_t size, uint32_t index) {
  // The centre is start + steps length / size. Quotient and product are sums of their rounded value and what rounding took (exact by
  // fmaf); whole pixels leave before the sum.
  const float parts = float(size), steps = float(index) + 0.5f;
  const float scale = length / parts, scale_rest = fmaf(-scale, parts, length) / parts;
  const float product = steps * scale, product_rest = fmaf(steps, scale, -product) + steps * scale_rest;
  const float whole_start = floorf(start), whole_length = floorf(length), whole_product = floorf(product);
  const float start_fraction = start - whole_start;
  const int base = int(whole_start) + int(whole_product);
  const float centre = start_fraction + (product - whole_product) + product_rest;   // from `base` on
  const float support = scale > 1.0f ? scale : 1.0f;
  int low = 0, high = int(available);
  if (!sees_surroundings) {
    const int crop_end = int(whole_start) + int(whole_length) + int(ceilf(start_fraction + (length - whole_length)));
    low = start > 0.0f ? int(start) : 0;
    high = crop_end < high ? crop_end : high;
  }
  const int first = base + int(floorf(centre - support + 0.5f)), end = base + int(floorf(centre + support + 0.5f));
  Taps taps{first > low ? first : low, end < high ? end : high, 0.0f, 1.0f / support, 0.0f};
  taps.start = float(taps.first - base) + 0.5f - centre;
  float sum = 0.0f;
  for (int tap = 0; tap < taps.end - taps.first; tap++) sum += tap_weight(taps, float(tap));
  taps.normaliser = 1.0f / sum;
  return taps;
}

DEVICE float mean_of_channel(int channel) { return channel == 0 ? 0.485f : channel == 1 ? 0.456f : 0.406f; }
DEVICE float inverse_deviation_of_channel(int channel) { return channel == 0 ? 1.0f / 0.229f : channel == 1 ? 1.0f / 0.224f : 1.0f / 0.225f; }

// An image has a whole number of blocks, so that neither index nor divisions need 64 bits.
template <class T>
DEVICE void augment(const AugmentParams& params) {
  const uint32_t pixels = params.size * params.size, blocks = (pixels + THREADS - 1) / THREADS;
  const uint32_t number = block_x() / blocks, pixel = block_x() % blocks * THREADS + thread_index();
  if (pixel >= pixels) return;
  const uint32_t column = pixel % params.size, row = pixel / params.size;
  const AugmentImage image = params.images[number];
  const uint32_t source_column = image.flip ? params.size - 1 - column : column;
  const Taps across = taps_of(image.left, image.crop_width, image.width, image.sees_surroundings, params.size, source_column);
  const Taps down = taps_of(image.top, image.crop_height, image.height, image.sees_surroundings, params.size, row);
  float sums[CHANNELS] = {};
  for (int y = down.first; y < down.end; y++) {
    const uint64_t start = params.pixels + image.offset + uint64_t(uint32_t(y)) * image.width * CHANNELS;
    const uint8_t* line = reinterpret_cast<const uint8_t*>(start);
    float line_sums[CHANNELS] = {};
    float tap = 0.0f;
    for (int x = across.first; x < across.end; x++, tap += 1.0f) {
      const float weight = tap_weight(across, tap);
      UNROLL
      for (int channel = 0; channel < CHANNELS; channel++) line_sums[channel] += weight * float(line[x * CHANNELS + channel]);
    }
    const float weight = tap_weight(down, float(y - down.first));
    UNROLL
    for (int channel = 0; channel < CHANNELS; channel++) sums[channel] += weight * line_sums[channel];
  }
  T* output = static_cast<T*>(params.output) + (uint64_t(number) * pixels + pixel) * CHANNELS;
  const float scale = across.normaliser * down.normaliser / 255.0f;
  UNROLL
  for (int channel = 0; channel < CHANNELS; channel++) {
    output[channel] = from_float<T>((sums[channel] * scale - mean_of_channel(channel)) * inverse_deviation_of_channel(channel));
  }
}

KERNEL(augment_f32, AugmentParams, THREADS) { augment<float>(params); }
KERNEL(augment_f16, AugmentParams, THREADS) { augment<Half>(params); }
KERNEL(augment_bf16, AugmentParams, THREADS) { augment<Bfloat>(params); }
