/* show.h - values of incoming files, as messages quote them. */
#ifndef MDN_INGEST_SHOW_H
#define MDN_INGEST_SHOW_H

#include <stdint.h>

#define MDN_SHOWN 300 /* room for a value in a message */

/* The text in quotes: cut at 64 bytes, control characters escaped. */
const char *mdn_show(const char *text, uint64_t size, char out[MDN_SHOWN]);

#endif
