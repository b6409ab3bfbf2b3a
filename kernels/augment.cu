// From 8-bit RGB images of any size to network input: crop, antialiased bilinear resize, flip and normalisation in one pass.
//
// The filter is Pillow's: a triangle stretched by the reduction factor, its weights summing to one, limited to the crop unless the
// crop sees its surroundings. Nothing is rounded between the two axes, and neither a resized nor a cropped image is stored.
// One thread makes one pixel; positions are computed in double precision, so that a filter's edge falls on the same source pixel as on
// the CPU. Any sizes. Bound by bytes: the crops' pixels from cache, 6 bytes a written 16-bit pixel.
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
  double centre, support;
  int first, end;
  float normaliser;
};

DEVICE float tap_weight(const Taps& taps, int pixel) {
  const double weight = 1.0 - fabs((pixel + 0.5 - taps.centre) / taps.support);
  return weight > 0.0 ? float(weight) : 0.0f;
}

DEVICE Taps taps_of(float start, float length, uint32_t available, bool sees_surroundings, uint32_t size, uint32_t index) {
  const double scale = double(length) / size, support = scale > 1.0 ? scale : 1.0, centre = start + (index + 0.5) * scale;
  int low = 0, high = int(available);
  if (!sees_surroundings) {
    const int crop_end = int(ceil(double(start) + double(length)));
    low = start > 0.0f ? int(start) : 0;
    high = crop_end < high ? crop_end : high;
  }
  const int first = centre - support + 0.5 > 0.0 ? int(centre - support + 0.5) : 0, end = int(centre + support + 0.5);
  Taps taps{centre, support, first > low ? first : low, end < high ? end : high, 0.0f};
  float sum = 0.0f;
  for (int pixel = taps.first; pixel < taps.end; pixel++) sum += tap_weight(taps, pixel);
  taps.normaliser = 1.0f / sum;
  return taps;
}

DEVICE float mean_of_channel(int channel) { return channel == 0 ? 0.485f : channel == 1 ? 0.456f : 0.406f; }
DEVICE float deviation_of_channel(int channel) { return channel == 0 ? 0.229f : channel == 1 ? 0.224f : 0.225f; }

template <class T>
DEVICE void augment(const AugmentParams& params) {
  const uint64_t index = uint64_t(block_x()) * THREADS + thread_index();
  if (index >= uint64_t(params.count) * params.size * params.size) return;
  const uint32_t column = uint32_t(index % params.size), row = uint32_t(index / params.size % params.size);
  const AugmentImage image = params.images[index / params.size / params.size];
  const uint32_t source_column = image.flip ? params.size - 1 - column : column;
  const Taps across = taps_of(image.left, image.crop_width, image.width, image.sees_surroundings, params.size, source_column);
  const Taps down = taps_of(image.top, image.crop_height, image.height, image.sees_surroundings, params.size, row);
  float sums[CHANNELS] = {};
  for (int y = down.first; y < down.end; y++) {
    const uint64_t start = params.pixels + image.offset + uint64_t(uint32_t(y)) * image.width * CHANNELS;
    const uint8_t* line = reinterpret_cast<const uint8_t*>(start);
    float line_sums[CHANNELS] = {};
    for (int x = across.first; x < across.end; x++) {
      const float weight = tap_weight(across, x);
      for (int channel = 0; channel < CHANNELS; channel++) line_sums[channel] += weight * float(line[x * CHANNELS + channel]);
    }
    const float weight = tap_weight(down, y);
    for (int channel = 0; channel < CHANNELS; channel++) sums[channel] += weight * line_sums[channel];
  }
  T* output = static_cast<T*>(params.output) + index * CHANNELS;
  const float scale = across.normaliser * down.normaliser / 255.0f;
  for (int channel = 0; channel < CHANNELS; channel++) {
    output[channel] = from_float<T>((sums[channel] * scale - mean_of_channel(channel)) / deviation_of_channel(channel));
  }
}

KERNEL(augment_f32, AugmentParams, THREADS) { augment<float>(params); }
KERNEL(augment_f16, AugmentParams, THREADS) { augment<Half>(params); }
KERNEL(augment_bf16, AugmentParams, THREADS) { augment<Bfloat>(params); }
