/* csv_parse.c - rows of cells into columns of samples, in two ways.
 *
 * Almost every row is clean: as many cells as there have to be, numbers of a
 * common form.  The fast way walks over such a row once, and turns each cell
 * into its numbers where it stands.  Whatever surprises it, it leaves alone;
 * the row is then read the exact way, which cuts it into cells first, knows
 * every form of number, and says what is wrong. */
#include "ingest/csv_parse.h"

#include "ingest/csv_row.h"
#include "ingest/number.h"
#include "ingest/number_fast.h"
#include "ingest/show.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

_Static_assert(MDN_PIECE_SLACK >= MDN_DECIMAL_SLACK + 16, "scans read ahead");

static char *
place_of(const mdn_block *block, const mdn_csv_target *t)
{
    char *base = NULL;

    switch (t->role) { /* no default: -Wswitch rejects a missing case */
    case MDN_CSV_TO_LABEL: base = (char *)block->labels; break;
    case MDN_CSV_TO_TIMESTAMP: base = (char *)block->timestamps; break;
    case MDN_CSV_TO_FIELD: base = (char *)block->columns[t->field].values;
    }
    return base + block->count * t->stride + t->offset;
}

/* An empty cell is NaN; false where that is no number. */
static bool
put_empty(mdn_dtype dtype, char *out)
{
    return (dtype == MDN_FLOAT16 || dtype == MDN_FLOAT32
            || dtype == MDN_FLOAT64)
           && mdn_number_parse(dtype, "nan", 3, out) == MDN_NUMBER_OK;
}

/* The exact way --------------------------------------------------------- */

static mdn_status
fail_cell(const mdn_csv_plan *plan, const mdn_text_job *job,
          const mdn_csv_row *row, const mdn_csv_target *t,
          mdn_number_result result, mdn_error *err)
{
    const mdn_csv_cell *cell = &row->cells[t->column];
    uint64_t line = job->line + mdn_csv_cell_line(row, cell);
    char column[MDN_SHOWN], value[MDN_SHOWN], place[MDN_TEXT_PLACE];
    const char *what = result == MDN_NUMBER_RANGE ? "does not fit" : "is not";
    const char *article = mdn_dtype_name(t->dtype)[0] == 'i' ? "an" : "a";
    const char *role = t->role == MDN_CSV_TO_LABEL       ? " label"
                       : t->role == MDN_CSV_TO_TIMESTAMP ? " timestamp"
                                                         : "";

    return mdn_fail(err, MDN_INVALID, "%s, %s: %s %s %s %s%s",
                    mdn_text_place(job, line, place),
                    mdn_csv_show_column(&plan->header, t->column, column),
                    mdn_show(cell->text, cell->size, value), what, article,
                    mdn_dtype_name(t->dtype), role);
}

static mdn_status
put_bytes(mdn_block *block, const mdn_csv_target *t, const mdn_csv_cell *cell,
          mdn_error *err)
{
    uint8_t *room = NULL;
    mdn_status st =
        mdn_block_payload_room(block, t->field, cell->size, &room, err);

    if (st == MDN_OK)
        mdn_block_payload_end(block, t->field,
                              mdn_csv_cell_copy(cell, (char *)room));
    return st;
}

static mdn_status
put_number(const mdn_csv_plan *plan, const mdn_text_job *job,
           const mdn_csv_row *row, const mdn_csv_target *t, mdn_error *err)
{
    const mdn_csv_cell *cell = &row->cells[t->column];
    char *out = place_of(job->block, t);
    mdn_number_result result;

    if (cell->size == 0 && put_empty(t->dtype, out))
        return MDN_OK;
    result = mdn_number_parse(t->dtype, cell->text, cell->size, out);
    if (result != MDN_NUMBER_OK)
        return fail_cell(plan, job, row, t, result, err);
    return MDN_OK;
}

/* The row that begins at `at`; *next is behind it. */
static mdn_status
exact_row(const mdn_csv_plan *plan, mdn_text_job *job, const char *at,
          mdn_csv_row *row, const char **next, mdn_error *err)
{
    mdn_csv_row_result result =
        mdn_csv_row_scan(row, at, job->end, plan->separator, plan->quote, next);
    uint32_t count = plan->header.count;
    char place[MDN_TEXT_PLACE];
    uint64_t line = job->line;
    mdn_status st = MDN_OK;

    if (result != MDN_CSV_ROW_OK) {
        if (result != MDN_CSV_ROW_CELLS && result != MDN_CSV_ROW_NOMEM)
            line += mdn_csv_cell_line(row, &row->cells[row->cell_count - 1]);
        return mdn_csv_row_fail(row, result, mdn_text_place(job, line, place),
                                err);
    }
    if (row->cell_count != count)
        return mdn_fail(err, MDN_INVALID, "%s: %u columns, but the %s has %u",
                        mdn_text_place(job, line, place), row->cell_count,
                        plan->header.names ? "header" : "first row", count);
    for (uint64_t i = 0; st == MDN_OK && i < plan->target_count; i++) {
        const mdn_csv_target *t = &plan->targets[i];

        if (t->dtype == MDN_BYTES)
            st = put_bytes(job->block, t, &row->cells[t->column], err);
        else
            st = put_number(plan, job, row, t, err);
    }
    return st;
}

/* The fast way ---------------------------------------------------------- */

/* The next separator or line feed; there is one, see pieces.h. */
static inline const char *
find_cell_end(const char *at, char separator)
{
#ifdef __SSE2__
    const __m128i separators = _mm_set1_epi8(separator);
    const __m128i feeds = _mm_set1_epi8('\n');

    for (;; at += 16) {
        __m128i text = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(text, separators),
                                    _mm_cmpeq_epi8(text, feeds));
        unsigned mask = (unsigned)_mm_movemask_epi8(hits);

        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#else
    while (*at != separator && *at != '\n')
        at++;
    return at;
#endif
}

static inline bool
fast_cell(mdn_block *block, const mdn_csv_target *t, const char *text,
          uint64_t size)
{
    char *out = place_of(block, t);

    if (t->dtype == MDN_BYTES)
        return mdn_block_put_payload(block, t->field, text, size, NULL)
               == MDN_OK;
    if (size == 0)
        return put_empty(t->dtype, out);
    return mdn_number_fast(t->dtype, text, size, out)
           || mdn_number_parse(t->dtype, text, size, out) == MDN_NUMBER_OK;
}

/* The cell whose opening quote is before `at`, up to its closing quote. */
static inline const char *
find_quoted_end(const char *at, const char *end, int quote, bool *doubled)
{
    while ((at = memchr(at, quote, (size_t)(end - at))) != NULL
           && at[1] == (char)quote) {
        *doubled = true;
        at += 2;
    }
    return at;
}

/* The same as fast_cell for a cell with doubled quotes: no number is. */
static bool
doubled_cell(mdn_block *block, const mdn_csv_target *t, const char *text,
             uint64_t size)
{
    const mdn_csv_cell cell = {.text = text, .size = size, .doubled = true};

    return t->dtype == MDN_BYTES && put_bytes(block, t, &cell, NULL) == MDN_OK;
}

/* What is behind the row that begins at `at`, if it went well; NULL otherwise,
 * and then nothing that was put counts.  *lines: line feeds in its quotes. */
static const char *
fast_row(const mdn_csv_plan *plan, mdn_text_job *job, const char *at,
         uint64_t *lines)
{
    uint32_t count = plan->header.count;
    const mdn_csv_target *t = plan->targets;

    for (uint32_t c = 0; c < count; c++) {
        const mdn_csv_target *t_end = plan->targets + plan->first[c + 1];
        const char *text = at, *cell_end;
        bool doubled = false;

        if (plan->quote >= 0 && *at == (char)plan->quote) {
            text = at + 1;
            cell_end = find_quoted_end(text, job->end, plan->quote, &doubled);
            if (cell_end == NULL)
                return NULL;
            *lines += mdn_csv_count_lines(text, cell_end);
            at = cell_end + 1;
            at += *at == '\r' && at[1] == '\n';
        } else {
            at = cell_end = find_cell_end(at, plan->separator);
            cell_end -= *at == '\n' && at > text && at[-1] == '\r';
        }
        if (*at != (c + 1 < count ? plan->separator : '\n'))
            return NULL;
        for (; t < t_end; t++) {
            uint64_t size = (uint64_t)(cell_end - text);

            if (doubled ? !doubled_cell(job->block, t, text, size)
                        : !fast_cell(job->block, t, text, size))
                return NULL;
        }
        at++;
    }
    return at < job->end ? at : job->end;
}

mdn_status
mdn_csv_parse(const void *self, mdn_text_job *job, mdn_error *err)
{
    const mdn_csv_plan *plan = self;
    const char *at = job->text, *next;
    mdn_csv_row row = {.text = NULL};
    mdn_status st = MDN_OK;

    for (;;) {
        uint64_t size_before = job->block->size_bytes, lines = 0;

        if (*at == '\n' || *at == '\r')
            at = mdn_csv_skip_empty(at, job->end, &job->line);
        if (at >= job->end || (st = mdn_text_reserve(job, err)) != MDN_OK)
            break;
        next = fast_row(plan, job, at, &lines);
        if (next == NULL) {
            job->block->size_bytes = size_before;
            if ((st = exact_row(plan, job, at, &row, &next, err)) != MDN_OK) {
                job->block->size_bytes = size_before;
                break;
            }
            lines = mdn_csv_count_lines(at, next - 1);
        }
        job->line += lines + 1;
        mdn_text_end_sample(job, next);
        at = next;
    }
    mdn_csv_row_clear(&row);
    return st;
}
