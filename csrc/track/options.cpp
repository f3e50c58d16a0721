#include "track/options.h"

#include <cmath>
#include <limits>
#include <locale>
#include <sstream>
#include <vector>

namespace chase_fast::track {

const char* const kHelp =
    R"(usage: chase-track MODEL_DIR VIDEO|FOLDER X,Y,W,H [options]

Follows one target through a video, from its box in the first frame.

  MODEL_DIR     made by `python -m chase_fast.export CHECKPOINT --out MODEL_DIR`, once, on any machine
  VIDEO|FOLDER  a video file, or a folder of images (jpg, png, bmp, tif, webp, ppm), taken in the order of their
                numbers: 2.jpg before 10.jpg
  X,Y,W,H       the target in the first frame: left, top, width and height in pixels

  --out FILE        where boxes go, a line x,y,w,h per frame, the given box first; without it, standard output.
                    FILE is written beside its place and renamed at the end, also after Ctrl-C.
  --threads N       threads of the CPU (default: as many processors as the process may use)
  --precision P     fp32, or bf16: faster convolutions where the processor computes with bfloat16 (default fp32)
  --seed N          of random numbers; the same seed, the same boxes (default 0)
  --frames N        stop after N frames (default: at the end)
  --help            this text

Frames and frames per second go to standard error.

Examples:
  chase-track exported car.mp4 412,230,96,54 --out boxes.txt
  chase-track exported frames/ 40,30,30,24 --threads 4 --frames 100 > boxes.txt

Exit code: 0; 2 after a line `error: ...`; 130 and 143 after Ctrl-C and SIGTERM, with the boxes found until then.
)";

namespace {

// A number and nothing else, in the notation of C.
template <class T>
bool read(const std::string& text, T& value) {
  std::istringstream in(text);
  in.imbue(std::locale::classic());
  return !text.empty() && !std::isspace(static_cast<unsigned char>(text[0])) && in >> value &&
         in.peek() == std::istringstream::traits_type::eof();
}

int64_t integer(const std::string& flag, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  if (!read(text, value) || value < least || value > most)
    throw Wrong(flag + " " + text + ": give a whole number, from " + std::to_string(least) +
                (most == std::numeric_limits<int64_t>::max() ? " on" : " to " + std::to_string(most)));
  return value;
}

std::array<double, 4> box(const std::string& text) {
  std::array<double, 4> values{};
  std::istringstream parts(text);
  std::string part;
  size_t count = 0;
  bool fine = text.empty() || text.back() != ',';
  while (std::getline(parts, part, ','))
    if (count++ < 4) fine = fine && read(part, values[count - 1]) && std::isfinite(values[count - 1]);
  if (!fine || count != 4) throw Wrong("box " + text + ": give four numbers X,Y,W,H in pixels, such as 412,230,96,54");
  return values;
}

}  // namespace

Options parse(int count, const char* const* arguments) {
  Options o;
  std::vector<std::string> words;
  constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  bool flags = true;  // until --
  for (int i = 1; i < count; ++i) {
    std::string word = arguments[i], value;
    const bool negative = word.size() > 1 && (word[1] == '.' || (word[1] >= '0' && word[1] <= '9'));  // -3,4,20,20
    if (!flags || word.size() < 2 || word[0] != '-' || negative) {
      words.push_back(word);
      continue;
    }
    if (word == "--") {
      flags = false;
      continue;
    }
    if (word == "--help" || word == "-h") {
      o.help = true;
      return o;
    }
    const size_t equals = word.find('=');
    const std::string flag = word.substr(0, equals);
    if (flag != "--out" && flag != "--threads" && flag != "--precision" && flag != "--seed" && flag != "--frames")
      throw Wrong(flag + " is unknown: chase-track --help lists the options");
    if (equals != std::string::npos)
      value = word.substr(equals + 1);
    else if (++i < count)
      value = arguments[i];
    if (value.empty()) throw Wrong(flag + " needs a value: chase-track --help explains it");
    if (flag == "--out") {
      o.out = value;
    } else if (flag == "--precision") {
      if (value != "fp32" && value != "bf16") throw Wrong("--precision " + value + ": choose fp32 or bf16");
      o.precision = value;
    } else if (flag == "--threads") {
      o.threads = static_cast<int>(integer(flag, value, 1, 1024));
    } else if (flag == "--seed") {
      o.seed = integer(flag, value, 0, kNoLimit);
    } else {
      o.most_frames = integer(flag, value, 1, kNoLimit);
    }
  }
  if (words.size() != 3)
    throw Wrong(words.size() < 3
                    ? "MODEL_DIR, VIDEO or FOLDER, and the box X,Y,W,H are needed: chase-track --help explains them"
                    : words[3] + " is one argument too many: chase-track --help explains them");
  o.model = words[0], o.frames = words[1], o.box = box(words[2]);
  return o;
}

}  // namespace chase_fast::track
