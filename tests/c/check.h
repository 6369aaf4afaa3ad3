/* check.h - the whole framework of the C tests.
 *
 *     static void a_fact(void) { CHECK(1 + 1 == 2); }
 *     int main(void) { RUN(a_fact); return check_report("test_x"); }
 *
 * A failed CHECK is printed and counted, and the test goes on. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdio.h>

static int check_failures, check_tests;

#define CHECK(expr)                                                            \
    do {                                                                       \
        if (!(expr)) {                                                         \
            check_failures++;                                                  \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__,     \
                    __func__, #expr);                                          \
        }                                                                      \
    } while (0)

#define RUN(test) (test(), check_tests++)

/* The exit status of main. */
static inline int
check_report(const char *program)
{
    if (check_failures > 0)
        printf("%s: %d checks FAILED\n", program, check_failures);
    else
        printf("%s: %d passed\n", program, check_tests);
    return check_failures > 0;
}

#endif
