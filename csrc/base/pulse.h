/* pulse.h - a question that long work asks all along: go on? */
#ifndef MDN_BASE_PULSE_H
#define MDN_BASE_PULSE_H

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

#endif
