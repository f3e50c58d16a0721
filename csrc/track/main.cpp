// chase-track: a target followed through a video. See options.cpp for its help.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>

#include "track/chase_track.h"
#include "track/options.h"
#include "track/output.h"
#include "track/silence.h"
#include "track/video.h"

namespace chase_fast::track {
namespace {

volatile std::sig_atomic_t stopped_by = 0;

void stop(int signal) { stopped_by = signal; }

// Once: a second signal ends the program at once.
void listen() {
  struct sigaction action{};
  action.sa_handler = stop;
  action.sa_flags = SA_RESETHAND;
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

class Tracker {
 public:
  explicit Tracker(const Options& o) {
    const Silence silence;
    chase_track* made = nullptr;
    const int code = chase_track_create(o.model.c_str(), o.precision.c_str(), o.threads, o.seed, &made);
    tracker_.reset(made);
    done(code);
  }
  void init(const cv::Mat& f, const double* box) {
    done(chase_track_init(tracker_.get(), f.data, f.cols, f.rows, static_cast<ptrdiff_t>(f.step[0]), box));
  }
  void update(const cv::Mat& f) {
    done(chase_track_update(tracker_.get(), f.data, f.cols, f.rows, static_cast<ptrdiff_t>(f.step[0])));
  }
  void result(double (&box)[4]) { done(chase_track_result(tracker_.get(), box, nullptr, nullptr)); }

 private:
  struct Destroy {
    void operator()(chase_track* tracker) const { chase_track_destroy(tracker); }
  };

  void done(int code) {
    if (code) throw Wrong(chase_track_error(tracker_.get()));
  }

  std::unique_ptr<chase_track, Destroy> tracker_;
};

class Progress {
 public:
  explicit Progress(int64_t frames)
      : frames_(frames), terminal_(isatty(STDERR_FILENO)), every_(terminal_ ? 200 : 10000) {}

  // seconds: of the tracker for one more frame.
  void add(double seconds) {
    ++done_, seconds_ += seconds;
    const auto now = Clock::now();
    if (now < next_) return;
    next_ = now + every_;
    print(terminal_ ? "\r" : "", terminal_ ? "" : "\n");
  }
  void end() { print(terminal_ ? "\r" : "", "\n"); }

 private:
  using Clock = std::chrono::steady_clock;

  void print(const char* before, const char* behind) {
    const std::string of = frames_ > done_ ? " of " + std::to_string(frames_) : "";
    std::fprintf(stderr, "%s%lld%s frames, %.1f fps%s", before, static_cast<long long>(done_), of.c_str(),
                 seconds_ > 0 ? static_cast<double>(done_) / seconds_ : 0, behind);
    std::fflush(stderr);
  }

  int64_t frames_, done_ = 0;
  double seconds_ = 0;
  bool terminal_;
  std::chrono::milliseconds every_;
  Clock::time_point next_ = Clock::now() + every_;
};

void track(const Options& o) {
  const auto video = open_video(o.frames);
  cv::Mat frame;
  if (!video->next(frame)) throw Wrong(o.frames + ": no frames");
  Tracker tracker(o);
  if (stopped_by) return;
  Output output(o.out);
  Progress progress(o.most_frames ? std::min(o.most_frames, std::max(video->frames(), int64_t{0})) : video->frames());
  double box[4];
  for (int64_t n = 1; !stopped_by; ++n) {
    const auto start = std::chrono::steady_clock::now();
    if (n == 1)
      tracker.init(frame, o.box.data());
    else
      tracker.update(frame);
    tracker.result(box);
    output.add(box);
    progress.add(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (n == o.most_frames || !video->next(frame)) break;
  }
  output.finish();
  progress.end();
}

int run(int count, char** arguments) {
  try {
    const Options options = parse(count, arguments);
    if (options.help) {
      std::fputs(kHelp, stdout);
      return 0;
    }
    listen();
    track(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 2;
  }
  return stopped_by ? 128 + stopped_by : 0;
}

}  // namespace
}  // namespace chase_fast::track

int main(int count, char** arguments) { return chase_fast::track::run(count, arguments); }
