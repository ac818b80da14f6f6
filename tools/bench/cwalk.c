/* SPDX-License-Identifier: GPL-2.0-only */
/* cwalk.c: native lower bound for "walk 4-level page table, fill hmm_pfns".
 * 4-level radix table (512 entries each, arrays of 64-bit entries), 4 KiB pages, 262144 of them.
 * Per leaf: read entry, none/present/protnone test, required-fault test (request flags of the output
 * slot, mask, defaults), special-bit test, store pfn|flags.  Per huge page or hole: one required-fault
 * test, then a store for each page that keeps the slot's sticky bits.  Per device-private entry: decode
 * it, look up its struct page, compare the owner of its pagemap.  No allocation, no locks, no rmap: the
 * fast path of a snapshot.
 * build: gcc -O2 cwalk.c -o cwalk ; usage: cwalk [npages] [reps] [kind]
 *   present   every entry a 4 KiB page, contiguous pfns        shuffled  the same, shuffled pfns
 *   huge      every pmd maps a huge page                       holes     no pmd has a page table
 *   private   as present, one entry in eight a device-private page of the range's owner
 */
#include <stdio.h>
#include <stdlib.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define E_PRESENT 1ull
#define E_WRITE   2ull
#define E_PROTNONE 0x100ull
#define E_SPECIAL 0x200ull
#define E_HUGE    0x80ull
#define T_PRIV_W  28ull
#define T_PRIV_R  29ull
#define E_TYPE(e)    ((e) >> 59)
#define E_OFFSET(e)  ((~(e) >> 9) & 0xffffffffffull)
#define E_SWAP(t, o) (((t) << 59) | ((~(o) & 0x3ffffffffffffull) << 9))
#define E_PFN(e)  (((e) >> 12) & 0xffffffffffull)
#define F_VALID (1ull << 63)
#define F_WRITE (1ull << 62)
#define F_ERROR (1ull << 61)
#define F_INOUT (7ull << 58)
#define F_ORDER (9ull << 53)
#define FIRST_PFN  0x100000ull
#define FIRST_PRIV 0x8000000ull

typedef struct { uint64_t e[512]; } table;

struct pagemap { const void *owner; };
struct spage { uint64_t flags; struct pagemap *pgmap; uint64_t rest[6]; };

struct range { uint64_t start, end; uint64_t *pfns; uint64_t deflt, mask; const void *owner; struct spage *priv; };

static table *newt(void) { table *t = aligned_alloc(4096, sizeof(table)); memset(t, 0, sizeof(*t)); return t; }
static table *tab(uint64_t e) { return (table *)(uintptr_t)(e & ~4095ull); }

static void map(table *top, uint64_t va, uint64_t ent, int level)
{
	int sh; table *t = top;
	for (sh = 39; sh > level; sh -= 9) {
		uint64_t *e = &t->e[(va >> sh) & 511];
		if (!*e) *e = (uintptr_t)newt() | E_PRESENT | E_WRITE;
		t = tab(*e);
	}
	t->e[(va >> level) & 511] = ent;
}

static inline int need_fault(const struct range *r, uint64_t req, uint64_t cpu)
{
	req = (req & r->mask) | r->deflt;
	if (!(req & F_VALID)) return 0;
	if ((req & F_WRITE) && !(cpu & F_WRITE)) return 3;
	if (!(cpu & F_VALID)) return 1;
	return 0;
}

static int range_need_fault(const struct range *r, uint64_t i, uint64_t n, uint64_t cpu)
{
	int all = 0;
	if (!((r->deflt | r->mask) & F_VALID)) return 0;
	while (n--) all |= need_fault(r, r->pfns[i++], cpu);
	return all;
}

static void fill(uint64_t *o, uint64_t n, uint64_t value, uint64_t step)
{
	for (; n--; o++, value += step) *o = (*o & F_INOUT) | value;
}

/* the caller's own device-private page is returned as it is */
static int private_leaf(const struct range *r, uint64_t e, uint64_t *out)
{
	uint64_t type = E_TYPE(e), pfn = E_OFFSET(e);
	if (type != T_PRIV_W && type != T_PRIV_R) return -2;	/* swap and others: slow path, not measured */
	if (r->priv[pfn - FIRST_PRIV].pgmap->owner != r->owner) return -2;
	*out = (*out & F_INOUT) | pfn | F_VALID | (type == T_PRIV_W ? F_WRITE : 0);
	return 0;
}

static int leaf(struct range *r, const uint64_t *pte, uint64_t *out)
{
	uint64_t e = *(volatile const uint64_t *)pte, cpu;
	uint64_t req = *out;

	if (!e) {
		if (need_fault(r, req, 0)) return -1;
		*out = 0; return 0;
	}
	if (!(e & (E_PRESENT | E_PROTNONE))) return private_leaf(r, e, out);
	cpu = (e & E_PROTNONE) ? 0 : (e & E_WRITE) ? F_VALID | F_WRITE : F_VALID;
	if (need_fault(r, req, cpu)) return -1;
	if (e & E_SPECIAL) { *out = F_ERROR; return 0; }
	*out = E_PFN(e) | cpu;
	return 0;
}

static int walk(table *t, int sh, uint64_t a, uint64_t end, struct range *r)
{
	uint64_t sz = 1ull << sh, next; int rc;
	for (; a < end; a = next) {
		uint64_t e = t->e[(a >> sh) & 511];
		next = (a + sz) & ~(sz - 1); if (next > end) next = end;
		uint64_t i = (a - r->start) >> 12, n = (next - a) >> 12;
		if (!e) {
			if (range_need_fault(r, i, n, 0)) return -1;
			fill(r->pfns + i, n, 0, 0);
			continue;
		}
		if (sh == 21 && (e & E_HUGE)) {
			uint64_t cpu = F_VALID | (e & E_WRITE ? F_WRITE : 0) | F_ORDER;
			if (range_need_fault(r, i, n, cpu)) return -1;
			fill(r->pfns + i, n, (E_PFN(e) + ((a >> 12) & 511)) | cpu, 1);
			continue;
		}
		if (sh == 21) {
			const uint64_t *p = &tab(e)->e[(a >> 12) & 511];
			uint64_t *o = &r->pfns[(a - r->start) >> 12];
			uint64_t b;
			for (b = a; b < next; b += 4096, p++, o++)
				if ((rc = leaf(r, p, o))) return rc;
		} else if ((rc = walk(tab(e), sh - 9, a, next, r))) return rc;
	}
	return 0;
}

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
static int cmp(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return x < y ? -1 : x > y; }

enum kind { PRESENT, SHUFFLED, HUGE, HOLES, PRIVATE, KINDS };
static const char *const kinds[KINDS] = { "present", "shuffled", "huge", "holes", "private" };

/* the word that page i must give; perm: pfn of each, from FIRST_PFN */
static uint64_t expected(enum kind k, long i, const uint64_t *perm)
{
	uint64_t rw = i % 3 ? F_WRITE : 0;
	switch (k) {
	case HOLES: return 0;
	case HUGE: return (FIRST_PFN + i) | F_VALID | F_ORDER | (i / 512 % 3 ? F_WRITE : 0);
	case PRIVATE: if (i % 8 == 7) return (FIRST_PRIV + i / 8) | F_VALID | rw;	/* fall through */
	default: return (FIRST_PFN + perm[i]) | F_VALID | rw;
	}
}

static void map_page(table *top, uint64_t va, enum kind k, long i, const uint64_t *perm)
{
	if (k == HOLES) {
		if (i % 262144 == 0) map(top, va, 0, 21);
	} else if (k == HUGE) {
		if (i % 512 == 0) map(top, va, ((FIRST_PFN + i) << 12) | E_PRESENT | E_HUGE | (i / 512 % 3 ? E_WRITE : 0), 21);
	} else if (k == PRIVATE && i % 8 == 7)
		map(top, va, E_SWAP(i % 3 ? T_PRIV_W : T_PRIV_R, FIRST_PRIV + i / 8), 12);
	else
		map(top, va, ((FIRST_PFN + perm[i]) << 12) | E_PRESENT | (i % 3 ? E_WRITE : 0), 12);
}

int main(int ac, char **av)
{
	long n = ac > 1 ? atol(av[1]) : 262144, reps = ac > 2 ? atol(av[2]) : 101, i, k;
	table *top = newt(); uint64_t base = 0x200000000000ull, s = 0, *perm = malloc(n * 8), x = 88172645463325252ull;
	uint64_t *pfns = aligned_alloc(4096, (n * 8 + 4095) & ~4095ul);
	double *t = malloc(reps * sizeof(double));
	static const char owner; struct pagemap pgmap = { &owner };
	struct spage *priv = calloc(n / 8 + 1, sizeof(*priv));
	struct range r = { base, base + ((uint64_t)n << 12), pfns, 0, 0, &owner, priv };
	enum kind kind = PRESENT;

	if (ac > 3)
		for (kind = 0; kind < KINDS && strcmp(kinds[kind], av[3]); kind++);
	if (kind == KINDS) { fprintf(stderr, "cwalk: there is no kind %s\n", av[3]); return 2; }
	for (i = 0; i < n; i++) perm[i] = i;
	for (i = 0; i <= n / 8; i++) priv[i].pgmap = &pgmap;
	if (kind == SHUFFLED) for (i = n - 1; i > 0; i--) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; long j = x % (i + 1); uint64_t q = perm[i]; perm[i] = perm[j]; perm[j] = q; }
	for (i = 0; i < n; i++) map_page(top, base + ((uint64_t)i << 12), kind, i, perm);
	memset(pfns, 0, n * 8);
	for (k = 0; k < reps; k++) {
		double a = now();
		if (walk(top, 39, r.start, r.end, &r)) { puts("walk failed"); return 1; }
		t[k] = (now() - a) / n;
		s += pfns[k % n];
	}
	for (i = 0; i < n; i++) if (pfns[i] != expected(kind, i, perm)) { printf("bad %ld\n", i); return 1; }
	qsort(t, reps, sizeof(double), cmp);
	printf("pages %ld reps %ld kind %s: min %.3f median %.3f p90 %.3f ns/page (check %llx)\n", n, reps, kinds[kind], t[0], t[reps / 2], t[reps * 9 / 10], (unsigned long long)s);
	return 0;
}
