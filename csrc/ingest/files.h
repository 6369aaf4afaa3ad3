/* files.h - one file, or some that belong together, per sample.
 *
 * Each sample has a file for each field, in schema order, and perhaps one more
 * that holds its label; what a file must hold, content.h says.  Files are read
 * by several threads; symbolic links are not followed and only regular files
 * are taken, since names found in a folder are nobody's promise. */
#ifndef MDN_INGEST_FILES_H
#define MDN_INGEST_FILES_H

#include "ingest/reader.h"

typedef struct {
    mdn_reader_file file; /* path and growing mean nothing */
    /* Of every sample its files, each ended by a NUL.  Copied. */
    const char *paths;
    uint64_t paths_size; /* bytes, with the last NUL */
    uint64_t count;      /* samples */
    bool labels;         /* the last file of each sample holds its label */
    /* Nanoseconds of the dataset's unit: the timestamp of a sample is when its
     * first file was last changed.  0: no timestamps. */
    uint64_t time_unit_ns;
} mdn_files_options;

/* MDN_INVALID if paths are not as many as they must be.  Nothing is opened
 * yet; errors name the file.  Positions are samples. */
mdn_status mdn_files_open(const mdn_files_options *options, mdn_reader **out,
                          mdn_error *err);

#endif
