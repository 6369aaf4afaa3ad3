/* guard.c - the only place that touches signals.
 *
 *     mdn_guard_run   sets a jump, makes it the thread's `active` frame, works
 *     on_bus          asks the frames of this thread, innermost first, whether
 *                     they own the address, and jumps to the one that does
 *
 * A jump out of the handler leaves nothing behind: SA_NODEFER keeps the signal
 * mask as it was, so that setting a jump costs no system call.  A thread that
 * blocks the signal (our own workers block all) hears it during a run: the
 * system ends a process that faults with the signal blocked.
 *
 * Others install handlers, too, also after us (workers of torch do).  So every
 * run looks whether ours is still on top, and puts it there again; what it
 * finds is what unowned signals go to.  If that one hands the signal back to
 * us, nobody wants it, and it does what it does by default. */
#include "base/guard.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

typedef struct frame {
    sigjmp_buf jump;
    const mdn_guard *guard;
    const void *volatile address;
    struct frame *outer;
} frame;

/* Of the initial-exec model, so that a signal handler may read them. */
static __thread frame *active __attribute__((tls_model("initial-exec")));
static __thread bool passing __attribute__((tls_model("initial-exec")));

/* The handlers before ours: the last one written is in use.  The pid of who
 * writes, or 0: a child that was forked meanwhile sees a foreign one. */
static struct sigaction before[2];
static atomic_uint latest;
static atomic_int writing;

/* The instruction that faulted does it again, and a core shows where. */
static void
die(int signal_number, const siginfo_t *info)
{
    signal(signal_number, SIG_DFL);
    if (info->si_code <= 0)
        raise(signal_number);
}

/* To whom it may concern. */
static void
pass_on(int signal_number, siginfo_t *info, void *context)
{
    const struct sigaction *to = &before[atomic_load(&latest) % 2];

    if (passing || (!(to->sa_flags & SA_SIGINFO) && to->sa_handler == SIG_DFL)
        || (!(to->sa_flags & SA_SIGINFO) && to->sa_handler == SIG_IGN)) {
        die(signal_number, info);
        return;
    }
    passing = true;
    if (to->sa_flags & SA_SIGINFO)
        to->sa_sigaction(signal_number, info, context);
    else
        to->sa_handler(signal_number);
    passing = false;
}

static void
on_bus(int signal_number, siginfo_t *info, void *context)
{
    /* What was sent by kill or raise has no address. */
    for (frame *f = info->si_code > 0 ? active : NULL; f != NULL;
         f = f->outer) {
        if (f->guard->owns(f->guard->ctx, info->si_addr)) {
            f->address = info->si_addr;
            siglongjmp(f->jump, 1);
        }
    }
    pass_on(signal_number, info, context);
}

static bool
is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_bus;
}

static void
install(void)
{
    struct sigaction ours = {.sa_sigaction = on_bus,
                             .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    struct sigaction now;
    int self = (int)getpid(), holder = 0;

    if (sigaction(SIGBUS, NULL, &now) == 0 && is_ours(&now))
        return;
    while (!atomic_compare_exchange_strong(&writing, &holder, self)
           && !(holder != self
                && atomic_compare_exchange_strong(&writing, &holder, self))) {
        holder = 0;
        sched_yield();
    }
    if (sigaction(SIGBUS, NULL, &now) == 0 && !is_ours(&now)) {
        unsigned next = atomic_load(&latest) + 1;

        before[next % 2] = now;
        atomic_store(&latest, next);
        sigemptyset(&ours.sa_mask);
        sigaction(SIGBUS, &ours, NULL);
    }
    atomic_store(&writing, 0);
}

static void
unblock_bus(sigset_t *blocked)
{
    sigset_t bus;

    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &bus, blocked);
}

static bool
run(const mdn_guard *guard, void (*work)(void *arg), void *arg,
    const void **address)
{
    frame f = {.guard = guard, .outer = active};

    if (sigsetjmp(f.jump, 0) == 0) {
        active = &f;
        work(arg);
        active = f.outer;
        return true;
    }
    /* The work around this run goes on, and may be next to hear the signal.
     * Who wraps handlers (a sanitizer does) may block it while they run. */
    unblock_bus(NULL);
    active = f.outer;
    *address = f.address;
    return false;
}

bool
mdn_guard_run(const mdn_guard *guard, void (*work)(void *arg), void *arg,
              const void **address)
{
    sigset_t blocked;
    bool whole;

    if (active != NULL)
        return run(guard, work, arg, address);
    install();
    unblock_bus(&blocked);
    whole = run(guard, work, arg, address);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    return whole;
}
