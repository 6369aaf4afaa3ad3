/* tar.c - members into samples.
 *
 * The headers of a sample's members are read first, up to the one that belongs
 * to the next sample; when all that is needed is there, contents are read.  So
 * a sample is put as a whole or not at all, and reading can go on at any
 * sample. */
#include "ingest/tar.h"

#include "base/bytes.h"
#include "ingest/content.h"
#include "ingest/tar_member.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SLICE_SIZE (UINT64_C(16) << 20) /* bytes of the file in one call */
#define SLICE_MEMBERS 4096
#define SHOWN 80 /* bytes of a name in a message */
#define WHAT_SIZE 320

typedef unsigned long long ull;

/* What one value of a sample is called, and where it was found. */
typedef struct {
    char *extensions; /* owned; one after the other, each NUL-terminated */
    uint64_t extensions_size;
    bool found;
    uint64_t header_at, at, size;
} slot;

typedef struct {
    mdn_reader reader; /* first */
    mdn_input input;
    mdn_tar tar;
    const mdn_schema *schema;
    slot *slots; /* owned: fields, then label, then timestamp */
    uint32_t slot_count;
    int64_t time_unit_ns;
    bool label, timestamp, growing, ended;
    uint64_t next; /* where the next sample begins */
    mdn_tar_member member;
    /* The sample whose members are being found. */
    char *name; /* owned */
    uint64_t name_size, name_room;
    uint64_t sample_at;
    int64_t mtime_ns;
} tar_reader;

static tar_reader *
tar_of(mdn_reader *reader)
{
    return (tar_reader *)reader; /* its first member */
}

static const char *
slot_name(const tar_reader *self, uint32_t s)
{
    uint32_t fields = self->schema->field_count;

    if (s < fields)
        return self->schema->fields[s].name;
    return s == fields && self->label ? "label" : "timestamp";
}

/* The end of a sample's name, short enough for a message. */
static const char *
shown_name(const char *name, uint64_t size)
{
    return size > SHOWN ? name + size - SHOWN : name;
}

/* Names ----------------------------------------------------------------- */

/* Where the extension begins, behind the first dot of the last component;
 * NULL if there is no name or no extension. */
static const char *
extension_of(const mdn_tar_member *member)
{
    const char *base = strrchr(member->name, '/');
    const char *dot;

    base = base != NULL ? base + 1 : member->name;
    dot = strchr(base, '.');
    return dot == NULL || dot == base || dot[1] == '\0' ? NULL : dot + 1;
}

/* The slot that takes this extension; slot_count if none does. */
static uint32_t
find_slot(const tar_reader *self, const char *extension)
{
    for (uint32_t s = 0; s < self->slot_count; s++) {
        const slot *one = &self->slots[s];

        for (uint64_t at = 0; at < one->extensions_size;
             at += strlen(one->extensions + at) + 1) {
            if (strcasecmp(one->extensions + at, extension) == 0)
                return s;
        }
    }
    return self->slot_count;
}

static mdn_status
begin_sample(tar_reader *self, uint64_t name_size, mdn_error *err)
{
    const mdn_tar_member *member = &self->member;

    if (name_size + 1 > self->name_room) {
        char *grown = realloc(self->name, name_size + 256);

        if (grown == NULL)
            return mdn_fail_nomem(err, name_size + 256);
        self->name = grown;
        self->name_room = name_size + 256;
    }
    memcpy(self->name, member->name, name_size);
    self->name[name_size] = '\0';
    self->name_size = name_size;
    self->sample_at = member->at;
    self->mtime_ns = member->mtime_ns;
    for (uint32_t s = 0; s < self->slot_count; s++)
        self->slots[s].found = false;
    return MDN_OK;
}

static mdn_status
add_member(tar_reader *self, const char *extension, mdn_error *err)
{
    const mdn_tar_member *member = &self->member;
    uint32_t s = find_slot(self, extension);
    slot *to = &self->slots[s];

    if (s == self->slot_count)
        return MDN_OK;
    if (to->found)
        return mdn_fail(err, MDN_INVALID,
                        "%s: byte %llu: sample %s has a second member for %s, "
                        "'.%.40s'; the first is at byte %llu",
                        self->input.name, (ull)member->at,
                        shown_name(self->name, self->name_size),
                        slot_name(self, s), extension, (ull)to->header_at);
    to->found = true;
    to->header_at = member->at;
    to->at = member->data_at;
    to->size = member->size;
    return MDN_OK;
}

/* Samples --------------------------------------------------------------- */

typedef enum {
    FOUND_SAMPLE,
    FOUND_NONE, /* the archive has ended, or goes on later */
    FOUND_MORE, /* nothing yet; self->next has moved on */
} found;

static mdn_status
fail_cut(const tar_reader *self, mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID,
                    "%s: ends at byte %llu, in the middle of what begins at "
                    "byte %llu; the archive is not complete",
                    self->input.name, (ull)self->input.facts.size,
                    (ull)self->member.at);
}

/* The archive has ended, by its mark or without one.  *any: a sample is being
 * found, and is whole. */
static mdn_status
take_end(tar_reader *self, bool *any, mdn_error *err)
{
    if (self->member.kind == MDN_TAR_CUT) {
        *any = false; /* a growing archive: it may go on */
        return self->growing ? MDN_OK : fail_cut(self, err);
    }
    if (!self->growing)
        return mdn_tar_check_rest(&self->tar, self->member.at, err);
    return MDN_OK;
}

/* Find the members of the next sample; *next is where the one after begins. */
static mdn_status
find_sample(tar_reader *self, uint64_t *next, found *out, mdn_error *err)
{
    uint64_t at = self->next;
    bool any = false;

    for (uint32_t n = 0;; n++) {
        const mdn_tar_member *member = &self->member;
        const char *extension;
        uint64_t name_size;
        mdn_status st = mdn_tar_next(&self->tar, at, &self->member, err);

        if (st != MDN_OK)
            return st;
        if (member->kind != MDN_TAR_MEMBER) {
            if (!any) /* directories before the end are done with */
                self->next = member->at;
            st = take_end(self, &any, err);
            *next = member->at;
            *out = any ? FOUND_SAMPLE : FOUND_NONE;
            return st;
        }
        extension = extension_of(member);
        if (extension == NULL) {
            if (!any) {
                self->next = member->next;
                if (n >= SLICE_MEMBERS) {
                    *out = FOUND_MORE;
                    return MDN_OK;
                }
            }
            at = member->next;
            continue;
        }
        name_size = (uint64_t)(extension - member->name) - 1;
        if (any
            && (name_size != self->name_size
                || memcmp(member->name, self->name, name_size) != 0)) {
            *next = member->at;
            *out = FOUND_SAMPLE;
            return MDN_OK;
        }
        if (!any && (st = begin_sample(self, name_size, err)) != MDN_OK)
            return st;
        any = true;
        if ((st = add_member(self, extension, err)) != MDN_OK)
            return st;
        at = member->next;
    }
}

static mdn_status
check_complete(const tar_reader *self, mdn_error *err)
{
    for (uint32_t s = 0; s < self->slot_count; s++) {
        const slot *one = &self->slots[s];
        bool several = strlen(one->extensions) + 1 < one->extensions_size;

        if (!one->found)
            return mdn_fail(err, MDN_INVALID,
                            "%s: byte %llu: sample %s has no member '.%s'%s "
                            "for %s",
                            self->input.name, (ull)self->sample_at,
                            shown_name(self->name, self->name_size),
                            one->extensions, several ? " or the like" : "",
                            slot_name(self, s));
    }
    return MDN_OK;
}

static mdn_status
put_slot(tar_reader *self, mdn_block *block, uint32_t s, mdn_error *err)
{
    const slot *from = &self->slots[s];
    const char *extension = from->extensions;
    char what[WHAT_SIZE];
    mdn_content content = {.input = &self->input,
                           .at = from->at,
                           .size = from->size,
                           .what = what};

    snprintf(what, sizeof what, "%s: byte %llu: sample %s, '.%.40s'",
             self->input.name, (ull)from->header_at,
             shown_name(self->name, self->name_size), extension);
    if (s < self->schema->field_count)
        return mdn_content_field(&content, block, self->schema, s, err);
    return mdn_content_integer(&content, slot_name(self, s),
                               s == self->schema->field_count && self->label
                                   ? &block->labels[block->count]
                                   : &block->timestamps[block->count],
                               err);
}

static mdn_status
put_sample(tar_reader *self, mdn_block *block, mdn_error *err)
{
    mdn_status st = mdn_block_reserve(block, 1, err);

    for (uint32_t s = 0; st == MDN_OK && s < self->slot_count; s++)
        st = put_slot(self, block, s, err);
    if (st != MDN_OK)
        return st;
    if (!self->timestamp && self->time_unit_ns > 0)
        block->timestamps[block->count] =
            mdn_time_in_units(self->mtime_ns, self->time_unit_ns);
    mdn_block_end_sample(block);
    return MDN_OK;
}

/* Reader ---------------------------------------------------------------- */

static mdn_status
tar_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
         mdn_progress *out, mdn_error *err)
{
    tar_reader *self = tar_of(reader);
    uint64_t from = self->next;

    for (uint32_t n = 0; n < SLICE_MEMBERS; n++) {
        uint64_t next = 0;
        found what;
        mdn_status st;

        *out = self->ended ? MDN_READER_END : MDN_READER_FULL;
        if (self->ended || (block->count > 0 && block->size_bytes >= size_max))
            return MDN_OK;
        *out = MDN_READER_MORE;
        if (self->next - from >= SLICE_SIZE)
            return MDN_OK;
        if ((st = find_sample(self, &next, &what, err)) != MDN_OK)
            return st;
        if (what == FOUND_MORE)
            return MDN_OK;
        if (what == FOUND_NONE) {
            self->ended = true;
            continue;
        }
        if ((st = check_complete(self, err)) != MDN_OK
            || (st = put_sample(self, block, err)) != MDN_OK)
            return st;
        self->next = next;
    }
    *out = self->ended ? MDN_READER_END : MDN_READER_MORE;
    return MDN_OK;
}

static uint64_t
tar_position(const mdn_reader *reader)
{
    return ((const tar_reader *)reader)->next;
}

static mdn_status
tar_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    tar_reader *self = tar_of(reader);

    if (position % MDN_TAR_BLOCK != 0 || position > self->input.facts.size)
        return mdn_fail(err, MDN_INVALID, "%s: no member begins at byte %llu",
                        self->input.name, (ull)position);
    self->next = position;
    self->ended = false;
    return MDN_OK;
}

static void
tar_free(mdn_reader *reader)
{
    tar_reader *self = tar_of(reader);

    for (uint32_t s = 0; self->slots != NULL && s < self->slot_count; s++)
        free(self->slots[s].extensions);
    free(self->slots);
    free(self->name);
    mdn_tar_member_clear(&self->member);
    mdn_tar_clear(&self->tar);
    mdn_input_close(&self->input);
    free(self);
}

/* Opening --------------------------------------------------------------- */

/* "jpg;jpeg" as two strings, none empty and none that another slot has. */
static mdn_status
take_extensions(tar_reader *self, uint32_t s, const char *text, mdn_error *err)
{
    slot *to = &self->slots[s];
    uint64_t size = strlen(text) + 1;

    to->extensions = malloc(size);
    if (to->extensions == NULL)
        return mdn_fail_nomem(err, size);
    for (uint64_t i = 0; i < size; i++)
        to->extensions[i] = text[i] == ';' ? '\0' : text[i];
    for (uint64_t at = 0; at < size; at += strlen(to->extensions + at) + 1) {
        const char *one = to->extensions + at;

        if (one[0] == '\0' || one[0] == '.' || strchr(one, '/') != NULL)
            return mdn_fail(err, MDN_INVALID,
                            "extensions of %s: '%.40s' is none; they begin "
                            "behind the first dot, as in 'jpg;jpeg'",
                            slot_name(self, s), one);
        if (find_slot(self, one) < s)
            return mdn_fail(err, MDN_INVALID,
                            "extension '%.40s' is given for %s and for %s", one,
                            slot_name(self, find_slot(self, one)),
                            slot_name(self, s));
    }
    to->extensions_size = size;
    return MDN_OK;
}

static mdn_status
take_options(tar_reader *self, const mdn_tar_options *options, mdn_error *err)
{
    uint32_t fields = options->file.schema->field_count, s = 0;
    mdn_status st = MDN_OK;

    self->schema = options->file.schema;
    self->growing = options->file.growing;
    self->label = options->label != NULL;
    self->timestamp = options->timestamp != NULL;
    self->time_unit_ns = (int64_t)options->time_unit_ns;
    self->slot_count = fields + self->label + self->timestamp;
    self->slots = calloc(self->slot_count, sizeof *self->slots);
    if (self->slots == NULL)
        return mdn_fail_nomem(err, self->slot_count * sizeof *self->slots);
    if (options->time_unit_ns > INT64_MAX)
        return mdn_fail(err, MDN_INVALID, "a unit of %llu nanoseconds",
                        (ull)options->time_unit_ns);
    for (; st == MDN_OK && s < fields; s++)
        st = take_extensions(self, s, options->extensions[s], err);
    if (st == MDN_OK && self->label)
        st = take_extensions(self, s++, options->label, err);
    if (st == MDN_OK && self->timestamp)
        st = take_extensions(self, s++, options->timestamp, err);
    return st;
}

mdn_status
mdn_tar_open(const mdn_tar_options *options, mdn_reader **out, mdn_error *err)
{
    tar_reader *self = calloc(1, sizeof *self);
    mdn_status st;

    *out = NULL;
    if (self == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    self->reader = (mdn_reader){.fill = tar_fill,
                                .position = tar_position,
                                .seek = tar_seek,
                                .free = tar_free,
                                .labels = options->label != NULL,
                                .timestamps = options->timestamp != NULL
                                              || options->time_unit_ns > 0};
    self->input = MDN_INPUT_CLOSED;
    if ((st = take_options(self, options, err)) != MDN_OK
        || (st = mdn_input_open(options->file.io, options->file.path, true,
                                &self->input, err))
               != MDN_OK
        || (st = mdn_tar_init(&self->tar, &self->input, err)) != MDN_OK) {
        tar_free(&self->reader);
        return st;
    }
    *out = &self->reader;
    return MDN_OK;
}
