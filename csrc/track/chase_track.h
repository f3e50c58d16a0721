/* A single-object tracker of chase_fast as a C library: a folder of `python -m chase_fast.export`, frames in, boxes out.
 *
 * Functions return 0, or something else after which chase_track_error() has one line that says why; nothing is thrown.
 * A tracker is for one thread at a time; several trackers may run in several threads. Boxes are x, y, w, h in pixels:
 * the top-left corner and the size. Frames are RGB, 8 bits per channel, rows from the top, `stride` bytes apart.
 */
#ifndef CHASE_TRACK_H
#define CHASE_TRACK_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define CHASE_TRACK_API
#else
#define CHASE_TRACK_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chase_track chase_track;

/* What a result is: found and learned from; found; found beside a rival, which was learned from; not found, the box is
 * the last one; the box that chase_track_init() was given. */
enum chase_track_state {
  CHASE_TRACK_TRACKED = 0,
  CHASE_TRACK_UNCERTAIN = 1,
  CHASE_TRACK_HARD_NEGATIVE = 2,
  CHASE_TRACK_LOST = 3,
  CHASE_TRACK_GIVEN = 4
};

/* Loads the tracker in `folder`; takes a second or two.
 * precision: "fp32", or "bf16" for convolutions on a processor that computes with it; NULL: fp32.
 * threads: of the CPU; 0: as many as the process may use.  seed: of random numbers; the same seed, the same boxes.
 * *tracker is set even if this fails, for chase_track_error(); destroy it in any case. (NULL: out of memory.) */
CHASE_TRACK_API int chase_track_create(const char* folder, const char* precision, int threads, int64_t seed,
                                       chase_track** tracker);

/* Learns the target from its box in a frame. A tracker can be given another target at any time.
 * A box has sides of at least one pixel and at least one pixel in the frame. */
CHASE_TRACK_API int chase_track_init(chase_track* tracker, const uint8_t* rgb, int width, int height, ptrdiff_t stride,
                                     const double box[4]);

/* Finds the target in the next frame, which may have another size. */
CHASE_TRACK_API int chase_track_update(chase_track* tracker, const uint8_t* rgb, int width, int height,
                                       ptrdiff_t stride);

/* What the last call of init or update found. score, of the target against its surroundings (NaN after init), and
 * state, of chase_track_state, may be NULL. */
CHASE_TRACK_API int chase_track_result(chase_track* tracker, double box[4], float* score, int* state);

/* Why the last call that failed did, or "". Valid until the next call with this tracker. */
CHASE_TRACK_API const char* chase_track_error(const chase_track* tracker);

/* Frees a tracker; NULL is fine. */
CHASE_TRACK_API void chase_track_destroy(chase_track* tracker);

#ifdef __cplusplus
}
#endif

#endif
