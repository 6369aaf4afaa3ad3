/* pulse.h - a question that long work asks all along: go on? */
#ifndef MDN_BASE_PULSE_H
#define MDN_BASE_PULSE_H

#include "base/clock.h"
#include "base/error.h"

#include <stddef.h>

/* Asked every few ms, on the thread that called; anything but MDN_OK ends the
 * work, as a failure would. */
typedef struct {
    mdn_status (*ask)(void *ctx, mdn_error *err);
    void *ctx;
} mdn_pulse;

/* MDN_OK without a pulse. */
static inline mdn_status
mdn_pulse_ask(const mdn_pulse *pulse, mdn_error *err)
{
    return pulse == NULL ? MDN_OK : pulse->ask(pulse->ctx, err);
}

#define MDN_BEAT_NS UINT64_C(20000000)

/* A pulse for work whose steps may be short: it is asked when so much time has
 * passed since it was asked last.  For one thread, the one that may ask. */
typedef struct {
    const mdn_pulse *pulse; /* borrowed, or NULL */
    uint64_t asked_ns;
} mdn_beat;

/* MDN_OK without a beat. */
static inline mdn_status
mdn_beat_ask(mdn_beat *beat, mdn_error *err)
{
    uint64_t now;

    if (beat == NULL || beat->pulse == NULL)
        return MDN_OK;
    now = mdn_steady_ns();
    if (now - beat->asked_ns < MDN_BEAT_NS)
        return MDN_OK;
    beat->asked_ns = now;
    return mdn_pulse_ask(beat->pulse, err);
}

#endif
