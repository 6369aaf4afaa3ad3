/* sampling_whole.c - what needs to read all candidates more than once. */
#include "python/sampling.h"

#include "selector/band.h"
#include "selector/exact.h"
#include "selector/systematic.h"

#include <stdlib.h>

/* Values, and rows for all candidates.  0, or -1 and an exception. */
static int
check(const mdn_py_values *values, const mdn_py_candidates *candidates)
{
    if (values->given)
        return mdn_py_values_check(values, candidates);
    PyErr_SetString(PyExc_ValueError, "values are missing");
    return -1;
}

/* ---- sums ---- */

static mdn_status
add_weights(void *ctx, const mdn_value_block *block, uint64_t first,
            uint64_t count, mdn_error *err)
{
    const mdn_values *values = ((void **)ctx)[0];
    mdn_exact *total = ((void **)ctx)[1];
    double weights[MDN_VALUES_CHUNK];
    mdn_status st =
        mdn_values_weights(values, block, first, count, weights, err);

    for (uint64_t i = 0; st == MDN_OK && i < count; i++)
        mdn_exact_add(total, weights[i]);
    return st;
}

static mdn_status
total_of(const mdn_py_candidates *self, mdn_py_values *values,
         const mdn_pulse *pulse, double *out, uint64_t *seen, mdn_error *err)
{
    mdn_exact *total = calloc(1, sizeof *total);
    void *ctx[] = {&values->core, total};
    mdn_py_shards shards;
    mdn_status st;

    *seen = 0;
    if (total == NULL)
        return mdn_fail_nomem(err, sizeof *total);
    st =
        mdn_py_shards_open(self, values, MDN_WANT_KEYS, 1, pulse, &shards, err);
    if (st == MDN_OK) {
        st = mdn_values_each(&shards.shards[0], &values->core, add_weights, ctx,
                             seen, err);
        mdn_py_shards_close(&shards);
    }
    *out = mdn_exact_round(total);
    free(total);
    return st;
}

const char mdn_py_total_doc[] =
    "total($self, values, /)\n--\n\n"
    "Return the sum of all weights, rounded once, and how many there are.";

PyObject *
mdn_py_candidates_total(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    PyObject *object;
    mdn_py_values values;
    uint64_t seen = 0;
    double total = 0;
    mdn_error err;
    mdn_status st = MDN_CALLBACK;

    if (!PyArg_ParseTuple(args, "O:total", &object))
        return NULL;
    if (mdn_py_values_read(object, 0, &thread, &values) < 0
        || check(&values, self) < 0)
        goto done;
    thread = PyEval_SaveThread();
    st = total_of(self, &values, &pulse, &total, &seen, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
done:
    mdn_py_values_release(&values);
    return st == MDN_OK ? Py_BuildValue("dK", total, (unsigned long long)seen)
                        : NULL;
}

/* ---- systematic ---- */

static mdn_status
systematic(const mdn_py_candidates *self, const mdn_py_values *values,
           uint64_t count, uint64_t seed, uint32_t threads, double thin_from,
           const mdn_pulse *pulse, mdn_drawn *out, mdn_error *err)
{
    mdn_py_shards shards;
    mdn_status st = mdn_py_shards_open(self, values, MDN_WANT_KEYS, threads,
                                       pulse, &shards, err);

    if (st != MDN_OK)
        return st;
    st = mdn_systematic(shards.shards, shards.count, &values->core, count, seed,
                        thin_from, out, err);
    mdn_py_shards_close(&shards);
    return st;
}

const char mdn_py_systematic_doc[] =
    "systematic($self, values, offset, count, seed, threads, "
    "thin_from=1048576.0, /)\n--\n\n"
    "Return keys with exact inclusion probabilities, their weights, and "
    "False.\n\nvalues, offset: weights, as of Sampler.offer. thin_from: how much "
    "of light\ncandidates makes it worth to thin them out; at least 1, for "
    "tests.";

PyObject *
mdn_py_candidates_systematic(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    unsigned long long count, seed;
    unsigned long threads;
    PyObject *object;
    mdn_py_values values;
    double offset, thin_from = MDN_THIN_FROM;
    mdn_drawn drawn;
    mdn_error err;
    mdn_status st = MDN_CALLBACK;

    if (!PyArg_ParseTuple(args, "OdKKk|d:systematic", &object, &offset, &count,
                          &seed, &threads, &thin_from)
        || mdn_py_read_threads(threads) == 0)
        return NULL;
    if (!(thin_from >= 1)) {
        PyErr_SetString(PyExc_ValueError, "thin_from must be at least 1");
        return NULL;
    }
    if (mdn_py_values_read(object, offset, &thread, &values) < 0
        || check(&values, self) < 0)
        goto done;
    thread = PyEval_SaveThread();
    st = systematic(self, &values, count, seed, mdn_py_read_threads(threads),
                    thin_from, &pulse, &drawn, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
done:
    mdn_py_values_release(&values);
    return st == MDN_OK ? mdn_py_drawn(&drawn, false) : NULL;
}

/* ---- bands ---- */

static mdn_status
band(const mdn_py_candidates *self, const mdn_py_values *values, uint64_t first,
     uint64_t last, uint32_t threads, const mdn_pulse *pulse, uint64_t **keys,
     uint64_t *count, mdn_error *err)
{
    mdn_py_shards shards;
    mdn_status st = mdn_py_shards_open(self, values, MDN_WANT_KEYS, threads,
                                       pulse, &shards, err);

    if (st != MDN_OK)
        return st;
    st = mdn_band(shards.shards, shards.count, &values->core, self->count,
                  first, last, keys, count, err);
    mdn_py_shards_close(&shards);
    return st;
}

const char mdn_py_band_doc[] =
    "band($self, values, first, last, threads, /)\n--\n\n"
    "Return the keys of ranks first .. last-1 by value, then key; ascending.";

PyObject *
mdn_py_candidates_band(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    unsigned long long first, last;
    unsigned long threads;
    PyObject *object;
    mdn_py_values values;
    uint64_t *keys, count;
    mdn_error err;
    mdn_status st = MDN_CALLBACK;

    if (!PyArg_ParseTuple(args, "OKKk:band", &object, &first, &last, &threads)
        || mdn_py_read_threads(threads) == 0)
        return NULL;
    if (first > last || last > self->count) {
        PyErr_Format(PyExc_ValueError,
                     "ranks must be 0 <= first <= last <= %llu, got %llu and "
                     "%llu",
                     (unsigned long long)self->count, first, last);
        return NULL;
    }
    if (mdn_py_values_read(object, 0, &thread, &values) < 0
        || check(&values, self) < 0)
        goto done;
    thread = PyEval_SaveThread();
    st = band(self, &values, first, last, mdn_py_read_threads(threads), &pulse,
              &keys, &count, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
done:
    mdn_py_values_release(&values);
    return st == MDN_OK ? mdn_py_owned_array(keys, MDN_UINT64, count) : NULL;
}
