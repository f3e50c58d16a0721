// A rectangle of a baseline JPEG. Entropy-coded blocks can only be read in order, so:
//   scan        stuffed zeros are removed once, up to the end marker (a file without one is damaged);
//   blocks      before and beside the rectangle are read without being stored, those after its last row not at all;
//               with restart markers reading begins at the last one before the rectangle;
//   pixels      inverse DCT of the blocks inside, upsampling and colours of the rectangle's rows.
// Every pixel is that of a whole decoding by libjpeg-turbo: chroma beyond the rectangle is decoded where the
// triangle filter reaches it.
#include "cpu/jpeg.h"

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/jpeg_entropy.h"
#include "cpu/jpeg_file.h"
#include "cpu/jpeg_pixels.h"

namespace chase_fast::cpu {
namespace {

using namespace jpeg;

constexpr int kMaxBlocks = 6;  // of a minimum coded unit (MCU): 4 luma, 2 chroma

struct Interval {
  size_t begin, end;
};

// Buffers that a thread keeps from frame to frame.
struct Scratch {
  std::vector<uint8_t> bits;  // scan without stuffing
  std::vector<Interval> intervals;
  std::vector<uint8_t> planes, rows;
  std::vector<int16_t> sums;
  HuffmanTable tables[6];  // dc and ac of every component
};

// Which MCUs, [mx0, mx1) x [my0, my1), and how samples lie in the planes that hold them.
struct Region {
  int64_t mcus_x, mx0, mx1, my0, my1;
  int64_t plane_offset[3], stride[3];
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Removes stuffed zeros; false if the data do not end with the end marker, or restart markers do not count on.
bool unstuff(std::string_view scan, Scratch& s) {
  s.bits.resize(scan.size() + kMaxBlocks * kBlockBits / 8 + 16);
  s.intervals.clear();
  const auto* from = reinterpret_cast<const uint8_t*>(scan.data());
  const uint8_t* const end = from + scan.size();
  uint8_t* to = s.bits.data();
  size_t begin = 0;
  for (;;) {
    const auto* mark = static_cast<const uint8_t*>(std::memchr(from, 0xff, end - from));
    if (!mark) return false;
    std::memcpy(to, from, mark - from);
    to += mark - from;
    while (mark + 1 < end && mark[1] == 0xff) ++mark;
    if (mark + 1 >= end) return false;
    from = mark + 2;
    if (mark[1] == 0) {
      *to++ = 0xff;
      continue;
    }
    const size_t here = to - s.bits.data();
    s.intervals.push_back({begin, here});
    begin = here;
    if (mark[1] == 0xd9) break;
    if (mark[1] != 0xd0 + (s.intervals.size() - 1) % 8) return false;
  }
  std::memset(to, 0, s.bits.data() + s.bits.size() - to);
  return true;
}

Region region_of(const File& f, int64_t x0, int64_t y0, int64_t w, int64_t h) {
  Region r;
  // a chroma sample further on every side where the triangle filter looks there
  const int64_t left = f.h == 2 ? std::max<int64_t>(x0 / 2 - 1, 0) : x0;
  const int64_t right = f.h == 2 ? std::min((x0 + w - 1) / 2 + 1, (f.width - 1) / 2) : x0 + w - 1;
  const int64_t top = f.v == 2 ? std::max<int64_t>(y0 / 2 - 1, 0) : y0;
  const int64_t bottom = f.v == 2 ? std::min((y0 + h - 1) / 2 + 1, (f.height - 1) / 2) : y0 + h - 1;
  r.mcus_x = ceil_div(f.width, 8 * f.h);
  r.mx0 = left / 8, r.mx1 = right / 8 + 1, r.my0 = top / 8, r.my1 = bottom / 8 + 1;
  int64_t offset = 0;
  for (int c = 0; c < f.components; ++c) {
    r.stride[c] = (r.mx1 - r.mx0) * 8 * (c ? 1 : f.h);
    r.plane_offset[c] = offset;
    offset += r.stride[c] * (r.my1 - r.my0) * 8 * (c ? 1 : f.v);
  }
  return r;
}

int64_t plane_bytes(const File& f, const Region& r) {
  int64_t total = 0;
  for (int c = 0; c < f.components; ++c) total += r.stride[c] * (r.my1 - r.my0) * 8 * (c ? 1 : f.v);
  return total;
}

struct Reader {
  const File& file;
  const Region& region;
  Scratch& scratch;
  Bits bits{};
  int dc[3] = {};
  size_t interval = 0;

  inline CHASE_FAST_FLAT bool begin_interval(size_t i) {
    if (i >= scratch.intervals.size()) return false;
    interval = i;
    bits = Bits{scratch.bits.data() + scratch.intervals[i].begin};
    dc[0] = dc[1] = dc[2] = 0;
    return true;
  }

  // All bits read so far belong to the interval.
  inline CHASE_FAST_FLAT bool inside() const {
    const Interval& i = scratch.intervals[interval];
    return bits.used(scratch.bits.data() + i.begin) <= 8 * static_cast<int64_t>(i.end - i.begin);
  }

  template <bool store>
  inline CHASE_FAST_FLAT bool mcu(int64_t mx, int64_t my) {
    alignas(64) int16_t block[kBlock];
    for (int c = 0; c < file.components; ++c) {
      const int across = c ? 1 : file.h, down = c ? 1 : file.v;
      const HuffmanTable &dc_table = scratch.tables[2 * c], &ac_table = scratch.tables[2 * c + 1];
      for (int by = 0; by < down; ++by)
        for (int bx = 0; bx < across; ++bx) {
          bool flat;
          if (store) std::memset(block, 0, sizeof block);
          if (!read_block<store>(bits, dc_table, ac_table, dc[c], block, flat)) return false;
          if (store) {
            const int64_t row = ((my - region.my0) * down + by) * 8, column = ((mx - region.mx0) * across + bx) * 8;
            idct_block(block, file.quantisers[file.quantiser_of[c]].data(), flat,
                       scratch.planes.data() + region.plane_offset[c] + row * region.stride[c] + column,
                       region.stride[c]);
          }
        }
    }
    return inside();
  }

  inline CHASE_FAST_FLAT bool all() {
    int64_t first = region.my0 * region.mcus_x;
    first = file.restart ? first / file.restart * file.restart : 0;
    if (!begin_interval(file.restart ? first / file.restart : 0)) return false;
    for (int64_t i = first; i < region.my1 * region.mcus_x; ++i) {
      if (file.restart && i > first && i % file.restart == 0 && !begin_interval(interval + 1)) return false;
      const int64_t my = i / region.mcus_x, mx = i % region.mcus_x;
      const bool wanted = my >= region.my0 && mx >= region.mx0 && mx < region.mx1;
      if (!(wanted ? mcu<true>(mx, my) : mcu<false>(mx, my))) return false;
      if (my + 1 == region.my1 && mx + 1 == region.mx1) return true;
    }
    return true;
  }
};

// Chroma row `y` of a plane, columns [first - 1, first + n + 1), edge samples repeated: [n + 2].
inline CHASE_FAST_FLAT void chroma_row(const File& f, const Region& r, const uint8_t* plane, int c, int64_t y,
                                       int64_t first, int64_t n, uint8_t* to) {
  const int64_t rows = ceil_div(f.height, f.v), columns = ceil_div(f.width, f.h);
  const uint8_t* row = plane + (std::min(std::max<int64_t>(y, 0), rows - 1) - r.my0 * 8) * r.stride[c] - r.mx0 * 8;
  std::memcpy(to + 1, row + first, n);
  to[0] = row[std::max<int64_t>(first - 1, 0)];
  to[n + 1] = row[std::min(first + n, columns - 1)];
}

// The rectangle's rows from the planes.
void colours(const File& f, const Region& r, Scratch& s, int64_t x0, int64_t y0, int64_t w, int64_t h, uint8_t* out) {
  const int64_t first = x0 / f.h, n = (x0 + w - 1) / f.h - first + 1;
  s.rows.resize(2 * (n + 2) + 2 * (2 * n + 64) + 3 * (w + 16));
  s.sums.resize(n + 2);
  uint8_t* const row[2] = {s.rows.data(), s.rows.data() + n + 2};
  uint8_t* const full[2] = {row[1] + n + 2, row[1] + n + 2 + 2 * n + 64};
  uint8_t* const rgb_planes = full[1] + 2 * n + 64;
  int16_t* const sums = s.sums.data();
  const uint8_t* const planes = s.planes.data();
  vectorised([&]() CHASE_FAST_FLAT {
    for (int64_t y = y0; y < y0 + h; ++y, out += 3 * w) {
      const uint8_t* luma = planes + (y - r.my0 * 8 * f.v) * r.stride[0] + x0 - r.mx0 * 8 * f.h;
      if (f.components == 1) {
        for (int64_t i = 0; i < w; ++i) out[3 * i] = out[3 * i + 1] = out[3 * i + 2] = luma[i];
        continue;
      }
      const uint8_t* chroma[2];
      for (int c = 1; c < 3; ++c) {
        const uint8_t* plane = planes + r.plane_offset[c];
        uint8_t* to = full[c - 1];
        if (f.h == 1) {
          chroma[c - 1] = plane + (y - r.my0 * 8) * r.stride[c] + x0 - r.mx0 * 8;
          continue;
        }
        chroma_row(f, r, plane, c, y / f.v, first, n, row[0]);
        if (f.v == 2) {
          chroma_row(f, r, plane, c, y / 2 + (y % 2 ? 1 : -1), first, n, row[1]);
          upsample_420(row[0], row[1], n, sums, to);
        } else {
          upsample_422(row[0], n, to);
        }
        chroma[c - 1] = to + x0 % 2;
      }
      to_rgb(luma, chroma[0], chroma[1], w, rgb_planes, out);
    }
  });
}

}  // namespace

std::array<int64_t, 2> jpeg_size(std::string_view data) {
  File file;
  if (!Parser(data).parse(file)) return {0, 0};
  return {file.height, file.width};
}

bool jpeg_part(std::string_view data, int64_t x0, int64_t y0, const TensorView& out) {
  check(out.dim() == 3 && out.size(2) == 3 && out.contiguous(), "jpeg_part: out must be [h, w, 3], contiguous");
  check_dtype(out, DType::U8, "jpeg_part: out");
  File file;
  if (!Parser(data).parse(file)) return false;
  const int64_t h = out.size(0), w = out.size(1);
  check(x0 >= 0 && y0 >= 0 && h > 0 && w > 0 && x0 + w <= file.width && y0 + h <= file.height,
        "jpeg_part: the rectangle leaves the image");
  static thread_local Scratch scratch;
  if (!unstuff(file.scan, scratch)) return false;
  // one interval too few would move all blocks after it
  const int64_t mcus = ceil_div(file.width, 8 * file.h) * ceil_div(file.height, 8 * file.v);
  const int64_t intervals = file.restart ? ceil_div(mcus, file.restart) : 1;
  if (static_cast<int64_t>(scratch.intervals.size()) != intervals) return false;
  for (int c = 0; c < file.components; ++c) {
    scratch.tables[2 * c].build(file.dc[file.dc_of[c]], true);
    scratch.tables[2 * c + 1].build(file.ac[file.ac_of[c]], false);
  }
  const Region region = region_of(file, x0, y0, w, h);
  scratch.planes.resize(plane_bytes(file, region));
  Reader reader{file, region, scratch};
  bool ok = false;
  vectorised([&]() CHASE_FAST_FLAT { ok = reader.all(); });
  if (ok) colours(file, region, scratch, x0, y0, w, h, out.ptr<uint8_t>());
  return ok;
}

}  // namespace chase_fast::cpu
