/* module.c - modyn._core: the C core as seen from Python.
 *
 * Only the typed faces (modyn/dataset.py, loader.py, sampling.py, ...) import
 * this module; its stub is modyn/_core.pyi. */
#include "python/python.h"

static struct PyModuleDef definition;

mdn_py_state *
mdn_py_state_of_module(PyObject *module)
{
    return PyModule_GetState(module);
}

mdn_py_state *
mdn_py_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &definition);

    return module ? PyModule_GetState(module) : NULL;
}

static PyObject *
add_exception(PyObject *module, const char *name, const char *doc,
              PyObject *base)
{
    char qualified[64];
    PyObject *exception;

    PyOS_snprintf(qualified, sizeof qualified, "modyn.errors.%s", name);
    exception = PyErr_NewExceptionWithDoc(qualified, doc, base, NULL);
    if (exception != NULL && PyModule_AddObjectRef(module, name, exception) < 0)
        Py_CLEAR(exception);
    return exception;
}

static int
add_exceptions(PyObject *module, mdn_py_state *state)
{
    const struct {
        PyObject **slot;
        const char *name, *doc;
        PyObject *base;
    } all[] = {
        {&state->corrupt_error, "CorruptError",
         "Stored bytes are damaged, or of a format version not known here.",
         PyExc_Exception},
        {&state->busy_error, "BusyError",
         "Another process or handle is writing already.", PyExc_OSError},
        {&state->closed_error, "ClosedError",
         "The object was used after close().", PyExc_Exception},
        {&state->database_error, "DatabaseError",
         "A database refused or could not be reached; no message holds a "
         "password.",
         PyExc_Exception},
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        *all[i].slot =
            add_exception(module, all[i].name, all[i].doc, all[i].base);
        if (*all[i].slot == NULL)
            return -1;
    }
    state->fenced_error = add_exception(
        module, "FencedError",
        "Another process has taken over this pipeline; this one must not "
        "write any more.",
        state->database_error);
    return state->fenced_error ? 0 : -1;
}

static int
module_exec(PyObject *module)
{
    mdn_py_state *state = PyModule_GetState(module);

    if (mdn_py_arrays_init() < 0)
        return -1;
    if (add_exceptions(module, state) < 0)
        return -1;
    if (mdn_py_add_dataset(module, state) < 0)
        return -1;
    if (mdn_py_add_reader(module, state) < 0)
        return -1;
    if (mdn_py_add_read_csv(module, state) < 0)
        return -1;
    if (mdn_py_add_maintain(module, state) < 0)
        return -1;
    if (mdn_py_add_read_jsonl(module, state) < 0)
        return -1;
    if (mdn_py_add_read_arrays(module, state) < 0)
        return -1;
    if (mdn_py_add_read_files(module, state) < 0)
        return -1;
    if (mdn_py_add_checks(module) < 0)
        return -1;
    if (mdn_py_add_sampling(module, state) < 0)
        return -1;
    if (mdn_py_add_coresets(module) < 0)
        return -1;
    if (mdn_py_add_kernelsum(module) < 0)
        return -1;
    if (mdn_py_add_keyindex(module, state) < 0)
        return -1;
    if (mdn_py_add_keyruns(module, state) < 0)
        return -1;
    if (mdn_py_add_batch(module, state) < 0)
        return -1;
    if (mdn_py_add_memory(module, state) < 0)
        return -1;
    if (mdn_py_add_loader(module, state) < 0)
        return -1;
    return mdn_py_add_orchestrator(module, state);
}

/* The members of the state are visited and cleared by one list. */
static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    mdn_py_state *state = PyModule_GetState(module);

    Py_VISIT(state->corrupt_error);
    Py_VISIT(state->busy_error);
    Py_VISIT(state->closed_error);
    Py_VISIT(state->database_error);
    Py_VISIT(state->fenced_error);
    Py_VISIT(state->dataset_type);
    Py_VISIT(state->view_type);
    Py_VISIT(state->candidates_type);
    Py_VISIT(state->candidate_blocks_type);
    Py_VISIT(state->trainset_type);
    Py_VISIT(state->loader_type);
    Py_VISIT(state->epoch_type);
    Py_VISIT(state->batch_type);
    Py_VISIT(state->tensor_type);
    Py_VISIT(state->memory_type);
    Py_VISIT(state->orchestrator_type);
    Py_VISIT(state->reader_type);
    Py_VISIT(state->keyindex_type);
    Py_VISIT(state->sampler_type);
    Py_VISIT(state->keyruns_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    mdn_py_state *state = PyModule_GetState(module);

    Py_CLEAR(state->corrupt_error);
    Py_CLEAR(state->busy_error);
    Py_CLEAR(state->closed_error);
    Py_CLEAR(state->database_error);
    Py_CLEAR(state->fenced_error);
    Py_CLEAR(state->dataset_type);
    Py_CLEAR(state->view_type);
    Py_CLEAR(state->candidates_type);
    Py_CLEAR(state->candidate_blocks_type);
    Py_CLEAR(state->trainset_type);
    Py_CLEAR(state->loader_type);
    Py_CLEAR(state->epoch_type);
    Py_CLEAR(state->batch_type);
    Py_CLEAR(state->tensor_type);
    Py_CLEAR(state->memory_type);
    Py_CLEAR(state->orchestrator_type);
    Py_CLEAR(state->reader_type);
    Py_CLEAR(state->keyindex_type);
    Py_CLEAR(state->sampler_type);
    Py_CLEAR(state->keyruns_type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "modyn._core",
    .m_doc = "The C core of modyn; see the typed faces in modyn/*.py.",
    .m_size = sizeof(mdn_py_state),
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
