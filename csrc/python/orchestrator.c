#include "python/python.h"

int
mdn_py_add_orchestrator(PyObject *module, mdn_py_state *state)
{
    (void)module;
    (void)state;
    return 0;
}
