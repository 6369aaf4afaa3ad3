/* orchestrator.h - _core.Orchestrator, for the files that bind the loop.
 *
 *     orchestrator_arrivals.c   blocks of the stream, as arrays
 *     orchestrator_steps.c      the other steps: what Python is asked
 *     orchestrator.c            what Python calls, and the life of the object
 *
 * next() saves its PyThreadState in the object and runs the core loop without
 * the GIL.  A callback that needs Python takes the state from there and puts it
 * back (enter, leave); if Python raised, the exception stays set, the callback
 * returns MDN_CALLBACK, and next() passes the exception on as it is. */
#ifndef MDN_PYTHON_ORCHESTRATOR_H
#define MDN_PYTHON_ORCHESTRATOR_H

#include "python/python.h"

#include "metadata/source.h"
#include "orchestrator/clock.h"
#include "orchestrator/orchestrator.h"

#include <stdbool.h>

typedef struct {
    PyObject_HEAD
    PyThreadState *thread; /* of the thread in next(), while it runs the core */
    bool running;          /* next() is on the way */

    PyObject *view_object; /* keeps view alive */
    PyObject *calls;       /* arrive, inform, select, commit, advance, known */
    PyObject *names;       /* tuple of str; the core borrows their UTF-8 */
    PyObject *directory;   /* bytes: of the training sets */
    Py_buffer order;       /* obj NULL: arrival order */

    mdn_view *view;              /* borrowed from view_object */
    mdn_metadata_source *source; /* one reference; NULL: arrivals of the view */
    mdn_clock clock;             /* of the source */
    mdn_pulse pulse;             /* signals, by way of thread */
    uint64_t block_count;
    mdn_metadata_stream *stream; /* read ahead */
    mdn_orchestrator *core;

    mdn_metadata_block block; /* that was read last */
    bool delivered;           /* and was given to Python */
    Py_buffer keys, weights;  /* the choice; obj NULL: none */
} mdn_py_orchestrator;

/* To Python and back.  result is what Python returned, and is dropped: NULL if
 * it raised. */
void mdn_py_orchestrator_enter(mdn_py_orchestrator *self);
mdn_status mdn_py_orchestrator_leave(mdn_py_orchestrator *self,
                                     PyObject *result, mdn_error *err);

/* orchestrator_arrivals.c: the stream of arrivals from a position on, and the
 * step that reads from it. */
mdn_status mdn_py_orchestrator_open(mdn_py_orchestrator *self,
                                    uint64_t position, mdn_error *err);
mdn_status mdn_py_orchestrator_arrive(void *ctx, mdn_metadata_block *out,
                                      mdn_error *err);

/* orchestrator_steps.c: what Python sees of a transition, (trigger, first,
 * position, candidates_first, samples, digest). */
PyObject *mdn_py_orchestrator_facts(const mdn_transition *transition);

/* All steps, without the names of the policies. */
mdn_steps mdn_py_orchestrator_steps(mdn_py_orchestrator *self);
void mdn_py_orchestrator_drop(mdn_py_orchestrator *self); /* the choice */

#endif
