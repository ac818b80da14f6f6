/* SPDX-License-Identifier: GPL-2.0-only */
/* cwalk.c: native lower bound for "walk 4-level page table, fill hmm_pfns".
 * 4-level radix table (512 entries each, arrays of 64-bit entries), 4 KiB pages, 262144 present
 * leaf entries; per leaf: read entry, none/present/protnone test, required-fault test (request
 * flags of the output slot, mask, defaults), special-bit test, store pfn|flags.  No allocation,
 * no locks, no rmap: the snapshot+present fast path of a range walk.
 * build: gcc -O2 cwalk.c -o cwalk ; usage: cwalk [npages] [reps] [mode]   mode 0 contiguous pfns, 1 shuffled pfns
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
#define E_PFN(e)  (((e) >> 12) & 0xffffffffffull)
#define F_VALID (1ull << 63)
#define F_WRITE (1ull << 62)
#define F_ERROR (1ull << 61)

typedef struct { uint64_t e[512]; } table;

struct range { uint64_t start, end; uint64_t *pfns; uint64_t deflt, mask; };

static table *newt(void) { table *t = aligned_alloc(4096, sizeof(table)); memset(t, 0, sizeof(*t)); return t; }
static table *tab(uint64_t e) { return (table *)(uintptr_t)(e & ~4095ull); }

static void map(table *top, uint64_t va, uint64_t ent)
{
	int sh; table *t = top;
	for (sh = 39; sh > 12; sh -= 9) {
		uint64_t *e = &t->e[(va >> sh) & 511];
		if (!*e) *e = (uintptr_t)newt() | E_PRESENT | E_WRITE;
		t = tab(*e);
	}
	t->e[(va >> 12) & 511] = ent;
}

static inline int need_fault(const struct range *r, uint64_t req, uint64_t cpu)
{
	req = (req & r->mask) | r->deflt;
	if (!(req & F_VALID)) return 0;
	if ((req & F_WRITE) && !(cpu & F_WRITE)) return 3;
	if (!(cpu & F_VALID)) return 1;
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
	if (!(e & (E_PRESENT | E_PROTNONE))) return -2;	/* swap-like entries: slow path, not measured */
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
		if (!e) {
			uint64_t i = (a - r->start) >> 12, n = (next - a) >> 12;
			while (n--) r->pfns[i++] = 0;
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

int main(int ac, char **av)
{
	long n = ac > 1 ? atol(av[1]) : 262144, reps = ac > 2 ? atol(av[2]) : 101, mode = ac > 3 ? atol(av[3]) : 0, i, k;
	table *top = newt(); uint64_t base = 0x200000000000ull, s = 0, *perm = malloc(n * 8), x = 88172645463325252ull;
	uint64_t *pfns = aligned_alloc(4096, (n * 8 + 4095) & ~4095ul);
	double *t = malloc(reps * sizeof(double));
	struct range r = { base, base + ((uint64_t)n << 12), pfns, 0, 0 };

	for (i = 0; i < n; i++) perm[i] = i;
	if (mode) for (i = n - 1; i > 0; i--) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; long j = x % (i + 1); uint64_t q = perm[i]; perm[i] = perm[j]; perm[j] = q; }
	for (i = 0; i < n; i++) map(top, base + ((uint64_t)i << 12), ((0x100000 + perm[i]) << 12) | E_PRESENT | (i % 3 ? E_WRITE : 0));
	memset(pfns, 0, n * 8);
	for (k = 0; k < reps; k++) {
		double a = now();
		if (walk(top, 39, r.start, r.end, &r)) { puts("walk failed"); return 1; }
		t[k] = (now() - a) / n;
		s += pfns[k % n];
	}
	for (i = 0; i < n; i++) if (pfns[i] != ((0x100000 + perm[i]) | F_VALID | (i % 3 ? F_WRITE : 0))) { printf("bad %ld\n", i); return 1; }
	qsort(t, reps, sizeof(double), cmp);
	printf("pages %ld reps %ld mode %ld: min %.3f median %.3f p90 %.3f ns/page (check %llx)\n", n, reps, mode, t[0], t[reps / 2], t[reps * 9 / 10], (unsigned long long)s);
	return 0;
}
