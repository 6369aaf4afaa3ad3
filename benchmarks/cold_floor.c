/* cold_floor.c - how fast a disk gives pieces of a file that no cache has.
 *
 * Pieces are read past the page cache (O_DIRECT), in whole sectors, with so
 * many reads under way at any time, and each lands in a slot of its own.  From
 * there the bytes that were asked for are copied to where they belong, one
 * piece after the other.  io_uring by its two system calls, one thread, nothing
 * registered.
 *
 * Compiled by benchmarks/machine.py and called through ctypes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR ((uint64_t)4096)
#define DEPTH_MAX 1024

typedef struct {
    int fd;
    unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *entries;
    struct io_uring_cqe *done;
    void *rings, *entry_memory;
    size_t rings_size, entries_size;
} ring;

typedef struct {
    uint64_t start, size, to; /* of the piece: in the file, and in the output */
    uint64_t before;          /* bytes read ahead of it, to a sector */
} slot;

static void
ring_close(ring *r)
{
    if (r->entry_memory != NULL)
        munmap(r->entry_memory, r->entries_size);
    if (r->rings != NULL)
        munmap(r->rings, r->rings_size);
    if (r->fd >= 0)
        close(r->fd);
}

static int
ring_map(ring *r, const struct io_uring_params *p)
{
    uint64_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    uint64_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    char *base;

    if (!(p->features & IORING_FEAT_SINGLE_MMAP))
        return -ENOSYS;
    r->rings_size = sq > cq ? sq : cq;
    r->entries_size = p->sq_entries * sizeof(struct io_uring_sqe);
    base = mmap(NULL, r->rings_size, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    if (base == MAP_FAILED)
        return -errno;
    r->rings = base;
    r->entry_memory = mmap(NULL, r->entries_size, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    if (r->entry_memory == MAP_FAILED) {
        r->entry_memory = NULL;
        return -errno;
    }
    r->entries = r->entry_memory;
    r->sq_tail = (unsigned *)(base + p->sq_off.tail);
    r->sq_mask = (unsigned *)(base + p->sq_off.ring_mask);
    r->sq_array = (unsigned *)(base + p->sq_off.array);
    r->cq_head = (unsigned *)(base + p->cq_off.head);
    r->cq_tail = (unsigned *)(base + p->cq_off.tail);
    r->cq_mask = (unsigned *)(base + p->cq_off.ring_mask);
    r->done = (struct io_uring_cqe *)(base + p->cq_off.cqes);
    return 0;
}

static int
ring_open(ring *r, unsigned depth)
{
    struct io_uring_params p;
    int result;

    memset(&p, 0, sizeof p);
    memset(r, 0, sizeof *r);
    r->fd = (int)syscall(SYS_io_uring_setup, depth, &p);
    if (r->fd < 0)
        return -errno;
    if ((result = ring_map(r, &p)) < 0)
        ring_close(r);
    return result;
}

/* Ask for the sectors that hold a piece. */
static void
ask(ring *r, int fd, slot *s, unsigned number, char *memory, uint64_t room)
{
    unsigned tail = *r->sq_tail, at = tail & *r->sq_mask;
    struct io_uring_sqe *entry = &r->entries[at];
    uint64_t end = (s->start + s->size + SECTOR - 1) / SECTOR * SECTOR;

    s->before = s->start % SECTOR;
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_READ;
    entry->fd = fd;
    entry->off = s->start - s->before;
    entry->addr = (uint64_t)(uintptr_t)(memory + number * room);
    entry->len = (unsigned)(end - entry->off);
    entry->user_data = number;
    r->sq_array[at] = at;
    __atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

typedef struct {
    const uint64_t *starts, *sizes;
    uint64_t count, next, done, to; /* next to be asked for; read; bytes out */
    char *memory, *out;             /* a slot is room bytes of memory */
    uint64_t room;
    unsigned idle[DEPTH_MAX], idle_count;
    slot slots[DEPTH_MAX];
} reading;

/* Ask for as many pieces as there are idle slots; return how many. */
static unsigned
ask_for_more(ring *r, int fd, reading *j)
{
    unsigned asked = 0;

    for (; j->next < j->count && j->idle_count > 0; j->next++, asked++) {
        unsigned number = j->idle[--j->idle_count];
        slot *s = &j->slots[number];

        *s = (slot){j->starts[j->next], j->sizes[j->next], j->to, 0};
        j->to += s->size;
        ask(r, fd, s, number, j->memory, j->room);
    }
    return asked;
}

/* Copy what has come. */
static int
take(ring *r, reading *j)
{
    unsigned head = *r->cq_head;
    unsigned tail = __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE);

    for (; head != tail; head++, j->done++) {
        struct io_uring_cqe *event = &r->done[head & *r->cq_mask];
        unsigned number = (unsigned)event->user_data;
        slot *s = &j->slots[number];

        if (event->res < 0)
            return event->res;
        if ((uint64_t)event->res < s->before + s->size)
            return -EIO;
        memcpy(j->out + s->to, j->memory + number * j->room + s->before,
               s->size);
        j->idle[j->idle_count++] = number;
    }
    __atomic_store_n(r->cq_head, head, __ATOMIC_RELEASE);
    return 0;
}

static int
read_all(ring *r, int fd, reading *j)
{
    unsigned asked = 0;
    int result = 0;

    while (j->done < j->count && result == 0) {
        asked += ask_for_more(r, fd, j);
        if (syscall(SYS_io_uring_enter, r->fd, asked, 1, IORING_ENTER_GETEVENTS,
                    NULL, 0)
            >= 0) {
            asked = 0;
            result = take(r, j);
        } else if (errno != EINTR)
            result = -errno;
    }
    return result;
}

/* Read count pieces of a file, starts[i] to starts[i] + sizes[i], to out, one
 * after the other; no piece is larger than most.  0, or -errno: then some reads
 * may still be under way, and their memory is left to them. */
int
floor_cold_read(const char *path, const uint64_t *starts, const uint64_t *sizes,
                uint64_t count, uint64_t most, unsigned depth, char *out)
{
    reading j = {.starts = starts, .sizes = sizes, .count = count, .out = out};
    int fd = open(path, O_RDONLY | O_DIRECT), result;
    ring r;

    if (fd < 0)
        return -errno;
    j.room = (most + 2 * SECTOR - 1) / SECTOR * SECTOR;
    while (j.idle_count < depth && j.idle_count < DEPTH_MAX) {
        j.idle[j.idle_count] = j.idle_count;
        j.idle_count++;
    }
    j.memory = aligned_alloc(SECTOR, j.room * j.idle_count);
    result = j.memory == NULL ? -ENOMEM : ring_open(&r, j.idle_count);
    if (result == 0) {
        result = read_all(&r, fd, &j);
        ring_close(&r);
        if (result == 0)
            free(j.memory);
    }
    close(fd);
    return result;
}
