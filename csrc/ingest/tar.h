/* tar.h - samples from tar archives in the layout of WebDataset.
 *
 *     0001.jpg 0001.cls 0002.jpg 0002.cls ...
 *
 * The name of a sample is the path up to the first dot of its last component,
 * its extension what follows that dot ("seg.png" is one extension).  Members
 * with the same name that follow each other are one sample.  Each field, the
 * label and the timestamp take the member with one of their extensions; whole
 * extensions are compared, without regard to case.  Members with other
 * extensions are not read; those without a name or an extension (".nothing",
 * "README") belong to no sample.
 *
 * What a member must hold, content.h says; which members are refused,
 * tar_member.h.  The archive is read as a stream and nothing is unpacked. */
#ifndef MDN_INGEST_TAR_H
#define MDN_INGEST_TAR_H

#include "ingest/reader.h"

typedef struct {
    mdn_reader_file file; /* one thread reads, whatever threads says */
    /* Of each field, in schema order: extensions without the first dot, with
     * semicolons between, "jpg;jpeg;png".  Copied. */
    const char *const *extensions;
    const char *label;     /* likewise; NULL: there is none */
    const char *timestamp; /* likewise; NULL: there is none */
    /* Nanoseconds of the dataset's unit: without `timestamp`, that of a sample
     * is the time of its first member.  0: no timestamps. */
    uint64_t time_unit_ns;
} mdn_tar_options;

/* MDN_INVALID: extensions are no good, or given twice.  Errors of the archive
 * come with mdn_reader_fill.  A position is where the first member of a sample
 * begins; of a growing archive the last sample is left for later, until the
 * archive has an end. */
mdn_status mdn_tar_open(const mdn_tar_options *options, mdn_reader **out,
                        mdn_error *err);

#endif
