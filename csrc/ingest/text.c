/* text.c - ordered hand-out of pieces that several threads parse.
 *
 * A ring of slots holds pieces in the order of the file.  Only the caller of
 * mdn_text_fill reads the file and moves the ring; threads claim the oldest
 * slot that is QUEUED, parse it with no lock held, and mark it DONE:
 *
 *     FREE -> QUEUED -> RUNNING -> DONE -> FREE
 *       reader   any thread  same   reader
 *
 * While a thread waits for nothing but work, the caller never waits as long as
 * there is something that it could parse itself: with n threads asked for, n -
 * 1 are started.  They go on while the caller does something else with what he
 * got, up to the number of slots. */
#include "ingest/text.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 64

typedef unsigned long long ull;

typedef enum { FREE, QUEUED, RUNNING, DONE } slot_state;

typedef struct {
    slot_state state; /* guarded by the lock; the rest by the state */
    mdn_piece piece;
    mdn_text_job job;
    mdn_status status;
    mdn_error error;
    uint64_t taken; /* samples handed out */
} slot;

struct mdn_text {
    /* Written by the caller's thread alone. */
    const mdn_schema *schema; /* borrowed */
    mdn_pieces pieces;
    mdn_text_parse *parse; /* NULL: not begun */
    const void *self;      /* borrowed */
    bool labels, timestamps;
    uint64_t start, start_line; /* of the first row */
    uint64_t position;          /* behind the last row handed out */
    uint64_t line;              /* on which the oldest slot begins */
    uint64_t line_after;        /* as in mdn_text_job */
    uint32_t thread_count;      /* as asked for, the caller's included */
    uint32_t started_count;
    pid_t pid;
    pthread_t threads[THREADS_MAX];
    slot *slots; /* owned: a ring; those in use are first .. + count */
    uint32_t slot_count;
    uint32_t first, count; /* guarded by the lock as far as threads read it */

    pthread_mutex_t lock;
    pthread_cond_t work, done;
    bool stop; /* guarded by the lock */
};

static slot *
slot_at(mdn_text *text, uint32_t i)
{
    return &text->slots[(text->first + i) % text->slot_count];
}

/* Jobs ------------------------------------------------------------------ */

mdn_status
mdn_text_grow(mdn_text_job *job, mdn_error *err)
{
    mdn_status st = mdn_block_reserve(job->block, 1, err);
    uint64_t capacity = job->block->capacity;
    uint32_t *ends;

    if (st != MDN_OK || capacity <= job->end_capacity)
        return st;
    ends = realloc(job->ends, capacity * sizeof *ends);
    if (ends == NULL)
        return mdn_fail_nomem(err, capacity * sizeof *ends);
    job->ends = ends;
    job->end_capacity = capacity;
    return MDN_OK;
}

const char *
mdn_text_place(const mdn_text_job *job, uint64_t line, char out[MDN_TEXT_PLACE])
{
    if (job->line_after == 0)
        snprintf(out, MDN_TEXT_PLACE, "%s: line %llu", job->name, (ull)line);
    else
        snprintf(out, MDN_TEXT_PLACE, "%s: line %llu after byte %llu",
                 job->name, (ull)line, (ull)job->line_after);
    return out;
}

/* Parse what the slot holds, into its own block; lines count from `line`. */
static void
parse_slot(const mdn_text *text, slot *s, uint64_t line)
{
    mdn_block_clear(s->job.block);
    s->job.text = s->piece.text;
    s->job.end = s->piece.text + s->piece.size;
    s->job.line = line;
    s->status = text->parse(text->self, &s->job, &s->error);
}

/* Threads --------------------------------------------------------------- */

/* The lock is held.  The oldest slot that nobody parses, now RUNNING. */
static slot *
claim(mdn_text *text)
{
    for (uint32_t i = 0; i < text->count; i++) {
        slot *s = slot_at(text, i);

        if (s->state == QUEUED) {
            s->state = RUNNING;
            return s;
        }
    }
    return NULL;
}

/* The lock is held, and released while the slot is parsed. */
static void
parse_claimed(mdn_text *text, slot *s)
{
    pthread_mutex_unlock(&text->lock);
    parse_slot(text, s, 1);
    pthread_mutex_lock(&text->lock);
    s->state = DONE;
    pthread_cond_signal(&text->done);
}

static void *
work(void *arg)
{
    mdn_text *text = arg;
    slot *s;

    pthread_mutex_lock(&text->lock);
    while (!text->stop) {
        if ((s = claim(text)) != NULL)
            parse_claimed(text, s);
        else
            pthread_cond_wait(&text->work, &text->lock);
    }
    pthread_mutex_unlock(&text->lock);
    return NULL;
}

/* As many as can be had: there are fewer only for want of something else, and
 * the caller alone would do.  Signals are for the caller. */
static void
start_threads(mdn_text *text)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (
        text->started_count + 1 < text->thread_count
        && pthread_create(&text->threads[text->started_count], NULL, work, text)
               == 0)
        text->started_count++;
    text->thread_count = text->started_count + 1;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Take back what nobody has begun, and wait for the rest. */
static void
drain(mdn_text *text)
{
    pthread_mutex_lock(&text->lock);
    for (uint32_t i = 0; i < text->count; i++) {
        slot *s = slot_at(text, i);

        if (s->state == QUEUED)
            s->state = DONE;
        while (s->state == RUNNING)
            pthread_cond_wait(&text->done, &text->lock);
        s->state = FREE;
    }
    text->first = text->count = 0;
    pthread_mutex_unlock(&text->lock);
}

/* Life cycle ------------------------------------------------------------ */

static mdn_status
check_process(const mdn_text *text, mdn_error *err)
{
    if (text->pid == getpid())
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "%s: the reader was opened before a fork and does not "
                    "work in the child; open the file there",
                    text->pieces.name);
}

mdn_status
mdn_text_open(const mdn_reader_file *file, uint64_t piece_size, char separator,
              int quote, mdn_text **out, mdn_error *err)
{
    mdn_text *text = calloc(1, sizeof *text);
    uint32_t threads = file->threads;
    mdn_status st;

    *out = NULL;
    if (text == NULL)
        return mdn_fail_nomem(err, sizeof *text);
    text->schema = file->schema;
    text->pid = getpid();
    text->thread_count = threads > THREADS_MAX ? THREADS_MAX : threads;
    text->slot_count = threads > 1 ? 2 * text->thread_count + 1 : 1;
    pthread_mutex_init(&text->lock, NULL);
    pthread_cond_init(&text->work, NULL);
    pthread_cond_init(&text->done, NULL);
    text->slots = calloc(text->slot_count, sizeof *text->slots);
    st =
        mdn_pieces_open(file, piece_size, separator, quote, &text->pieces, err);
    if (st == MDN_OK && text->slots == NULL)
        st = mdn_fail_nomem(err, text->slot_count * sizeof *text->slots);
    if (st != MDN_OK) {
        mdn_text_free(text);
        return st;
    }
    *out = text;
    return MDN_OK;
}

static void
stop_threads(mdn_text *text)
{
    pthread_mutex_lock(&text->lock);
    text->stop = true;
    pthread_cond_broadcast(&text->work);
    pthread_mutex_unlock(&text->lock);
    for (uint32_t i = 0; i < text->started_count; i++)
        pthread_join(text->threads[i], NULL);
    pthread_cond_destroy(&text->work);
    pthread_cond_destroy(&text->done);
    pthread_mutex_destroy(&text->lock);
}

void
mdn_text_free(mdn_text *text)
{
    if (text == NULL)
        return;
    if (text->pid != getpid()) {
        /* In a forked child there are no threads, only what they were in the
         * middle of: no memory of theirs can be trusted enough to be freed. */
        mdn_pieces_close(&text->pieces);
        return;
    }
    stop_threads(text);
    for (uint32_t i = 0; text->slots != NULL && i < text->slot_count; i++) {
        mdn_piece_clear(&text->slots[i].piece);
        mdn_block_free(text->slots[i].job.block);
        free(text->slots[i].job.ends);
    }
    free(text->slots);
    mdn_pieces_close(&text->pieces);
    free(text);
}

const char *
mdn_text_name(const mdn_text *text)
{
    return text->pieces.name;
}

bool
mdn_text_is_growing(const mdn_text *text)
{
    return text->pieces.growing;
}

mdn_status
mdn_text_look(mdn_text *text, mdn_text_job *job, mdn_error *err)
{
    slot *s = &text->slots[0];
    mdn_status st;

    *job = (mdn_text_job){.name = text->pieces.name, .line = 1};
    s->piece.size = 0;
    if (!text->pieces.ended
        && (st = mdn_pieces_next(&text->pieces, &s->piece, err)) != MDN_OK)
        return st;
    if (s->piece.too_long)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a first row of more than %llu bytes; is it text, "
                        "and is every quote closed?",
                        text->pieces.name, (ull)MDN_ROW_MAX);
    job->text = s->piece.text;
    job->end = s->piece.text + s->piece.size;
    return MDN_OK;
}

uint64_t
mdn_text_offset(const mdn_text *text, const char *at)
{
    const mdn_piece *piece = &text->slots[0].piece;

    return piece->at + (uint64_t)(at - piece->text);
}

mdn_status
mdn_text_begin(mdn_text *text, uint64_t at, uint64_t line,
               mdn_text_parse *parse, const void *self, bool labels,
               bool timestamps, mdn_error *err)
{
    mdn_status st = MDN_OK;

    text->parse = parse;
    text->self = self;
    text->start = at > text->pieces.start ? at : text->pieces.start;
    text->start_line = line;
    text->labels = labels;
    text->timestamps = timestamps;
    for (uint32_t i = 0; st == MDN_OK && i < text->slot_count; i++) {
        st = mdn_block_new(text->schema, labels, timestamps,
                           &text->slots[i].job.block, err);
        text->slots[i].job.name = text->pieces.name;
    }
    if (st != MDN_OK)
        return st;
    return mdn_text_seek(text, at, err);
}

/* Reading --------------------------------------------------------------- */

/* Put pieces into free slots.  What goes wrong here waits in its slot, until
 * all that comes before it was handed out. */
static void
queue_pieces(mdn_text *text)
{
    while (text->count < text->slot_count && !text->pieces.ended) {
        slot *s = slot_at(text, text->count);

        s->taken = 0;
        s->job.line_after = text->line_after;
        mdn_block_clear(s->job.block);
        s->status = mdn_pieces_next(&text->pieces, &s->piece, &s->error);
        if (s->status != MDN_OK)
            text->pieces.ended = true;
        else if (s->piece.size == 0 && !s->piece.too_long)
            return; /* only an unfinished line is left */
        if (text->count > 0 && text->started_count + 1 < text->thread_count)
            start_threads(text);
        pthread_mutex_lock(&text->lock);
        s->state = s->piece.size > 0 && s->status == MDN_OK ? QUEUED : DONE;
        text->count++;
        pthread_cond_signal(&text->work);
        pthread_mutex_unlock(&text->lock);
    }
}

/* Return when the oldest slot is done; parse meanwhile what is queued. */
static slot *
finish_oldest(mdn_text *text)
{
    slot *oldest = slot_at(text, 0), *s;

    pthread_mutex_lock(&text->lock);
    while (oldest->state != DONE) {
        if ((s = claim(text)) != NULL)
            parse_claimed(text, s);
        else
            pthread_cond_wait(&text->done, &text->lock);
    }
    pthread_mutex_unlock(&text->lock);
    return oldest;
}

/* Size of the samples first .. first + count of the block. */
static uint64_t
size_of(const mdn_text *text, const mdn_block *block, uint64_t first,
        uint64_t count)
{
    uint64_t size = count * block->sample_size;

    for (uint32_t f = 0; f < text->schema->field_count; f++) {
        const int64_t *ends = block->columns[f].offsets;

        if (text->schema->fields[f].dtype == MDN_BYTES)
            size += (uint64_t)(ends[first + count] - ends[first]);
    }
    return size;
}

/* How many of the samples from `first` on it takes to reach this size; all of
 * them if they do not; at least one if there is one. */
static uint64_t
count_for(const mdn_text *text, const mdn_block *block, uint64_t first,
          uint64_t size)
{
    uint64_t low = 1, high = block->count - first;

    if (high == 0 || size_of(text, block, first, high) <= size)
        return high;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (size_of(text, block, first, middle) < size)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Move samples of the slot to the block, up to its budget. */
static mdn_status
hand_out(mdn_text *text, slot *s, mdn_block *block, uint64_t size_max,
         mdn_error *err)
{
    uint64_t room =
        size_max > block->size_bytes ? size_max - block->size_bytes : 0;
    uint64_t count = count_for(text, s->job.block, s->taken, room);
    mdn_status st;

    if (count == 0)
        return MDN_OK;
    st = mdn_block_append_part(block, s->job.block, s->taken, count, err);
    if (st != MDN_OK)
        return st;
    s->taken += count;
    text->position = s->piece.at + s->job.ends[s->taken - 1];
    return MDN_OK;
}

/* What is wrong with the oldest slot, now that it is known where it begins. */
static mdn_status
fail_slot(mdn_text *text, slot *s, mdn_error *err)
{
    char place[MDN_TEXT_PLACE];

    if (s->status == MDN_OK)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a row of more than %llu bytes; is a quote not "
                        "closed?",
                        mdn_text_place(&s->job, text->line, place),
                        (ull)MDN_ROW_MAX);
    if (s->status == MDN_INVALID)
        parse_slot(text, s, text->line);
    if (err != NULL)
        *err = s->error;
    return s->status;
}

mdn_status
mdn_text_fill(mdn_text *text, mdn_block *block, uint64_t size_max,
              mdn_progress *out, mdn_error *err)
{
    mdn_status st = check_process(text, err);
    slot *s;

    *out = MDN_READER_MORE;
    if (st != MDN_OK)
        return st;
    if (block->size_bytes >= size_max && block->count > 0) {
        *out = MDN_READER_FULL;
        return MDN_OK;
    }
    if (text->parse != NULL)
        queue_pieces(text);
    if (text->count == 0) {
        if (text->parse != NULL)
            text->position = text->pieces.next;
        *out = MDN_READER_END;
        return MDN_OK;
    }
    s = finish_oldest(text);
    if ((st = hand_out(text, s, block, size_max, err)) != MDN_OK
        || s->taken < s->job.block->count)
        return st;
    if (s->status != MDN_OK || s->piece.too_long)
        return fail_slot(text, s, err);
    text->line += s->job.line - 1;
    pthread_mutex_lock(&text->lock);
    s->state = FREE;
    text->first = (text->first + 1) % text->slot_count;
    text->count--;
    pthread_mutex_unlock(&text->lock);
    return MDN_OK;
}

uint64_t
mdn_text_position(const mdn_text *text)
{
    return text->position;
}

mdn_status
mdn_text_seek(mdn_text *text, uint64_t position, mdn_error *err)
{
    mdn_status st = check_process(text, err);

    if (st != MDN_OK)
        return st;
    if (text->parse == NULL)
        return position == 0
                   ? MDN_OK
                   : mdn_fail(err, MDN_INVALID,
                              "%s: position %llu is beyond all rows: the file "
                              "has no whole row yet",
                              text->pieces.name, (ull)position);
    drain(text);
    if (position < text->start)
        position = text->start;
    if ((st = mdn_pieces_seek(&text->pieces, position, err)) != MDN_OK)
        return st;
    text->position = position;
    text->line = position == text->start ? text->start_line : 1;
    text->line_after = position == text->start ? 0 : position;
    return MDN_OK;
}
