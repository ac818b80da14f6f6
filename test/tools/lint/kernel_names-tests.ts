// SPDX-License-Identifier: GPL-2.0-only
/**
 * Goal: the index of kernel names says of a name in which files of a kernel's tree it is, and of no
 * other. Method: small C files in the kernel's manner, one for each way to make a name; two small
 * trees; with KPROTO_KERNELS, the kernels' real trees (divided as in PATH) against the index here.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildNameIndex, kernelTree } from '../../../tools/lint/kernel/build.ts';
import { byName, namesOf } from '../../../tools/lint/kernel/c_names.ts';
import { expand, readC } from '../../../tools/lint/kernel/c_text.ts';
import {
	formatNameIndex,
	parseNameIndex,
	readNameIndex,
} from '../../../tools/lint/kernel/name_index.ts';
import { wantedOf } from '../../../tools/lint/kernel/wanted.ts';
import { main } from '../../../tools/lint/main.ts';
import { openProject } from '../../../tools/lint/tidy.ts';
import {
	ASSERT_EQ,
	EXPECT_EQ,
	EXPECT_STREQ,
	EXPECT_TRUE,
	FIXTURE,
	FIXTURE_SETUP,
	FIXTURE_TEARDOWN,
	SKIP,
	TEST,
	TEST_F,
} from '../../kselftest_harness.ts';
import { called } from '../../support/command.ts';

/** Names that a file defines, and, behind a bar, those that it declares alone. */
function names(source: string, headers = ''): string {
	const { defined, declared } = namesOf(readC(source), byName(readC(headers).macros));
	return [[...defined].sort().join(' '), [...declared].sort().join(' ')].join(' | ').trim();
}

TEST('functions_are_defined_where_their_body_is', () => {
	EXPECT_STREQ(
		'find_a find_b find_c find_d | find_e find_f',
		names(
			`
/* int in_comment(void) { } */
static int find_a(struct page *p, int (*fn)(int))
{
	if (p) { call(p); }
	return inner(p);
}
__printf(1, 2) const char *find_b(const char *fmt, ...) { return "int x(void) {"; }
static __always_inline struct folio *find_c(void) __acquires(lock)
{
	return '{' == 0 ? 0 : 1;
}
#ifdef CONFIG_X
int find_d(int a)
{
	if (a) {
#else
int find_d(long a)
{
	if (a > 1) {
#endif
		a++;
	}
}
int find_e(void);
extern int find_f(void) __must_check;
EXPORT_SYMBOL_GPL(find_a);
EXPORT_SYMBOL(from_elsewhere);
`,
			'#define EXPORT_SYMBOL(sym) extern typeof(sym) sym; static typeof(sym) *p_##sym = &sym\n',
		),
	);
});

TEST('types_constants_variables_and_macros_are_defined', () => {
	EXPECT_STREQ(
		'ALPHA BETA GAMMA LIMIT _count colour digit fn_t head max ops page page_t table | outside',
		names(`
#define LIMIT 4
#  define max(a, b) \\
	((a) > (b) ? (a) : (b))
struct forward;
struct page { unsigned long flags; struct { int inner; } s; } __packed;
enum colour { ALPHA, BETA = 1 << 3, GAMMA, };
typedef struct page page_t;
typedef int (*fn_t)(struct page *, int);
union digit { int a; };
static struct list_head head __read_mostly = { 0 };
static const struct page_ops ops = { .get = get_it };
int table[LIMIT] __initdata;
atomic_t _count;
extern int outside;
`),
	);
});

TEST('names_that_a_macro_pastes_are_those_of_the_file_that_calls_it', () => {
	const flags = `
#define TEST_FLAG(uname, lname, policy) \\
	static inline int test_##lname(void) { return 0; } \\
	static inline int Page##uname(void) { return policy; }
#define FLAG(uname, lname, policy) TEST_FLAG(uname, lname, policy) int set_##lname(void) { }
#define lock_struct(name) struct name
`;
	EXPECT_STREQ(
		'PageDirty PageLocked after lru_lock set_dirty test_dirty test_locked |',
		names(
			`
TEST_FLAG(Locked, locked, POLICY(1, 2))
FLAG(Dirty, dirty, ANY) int after(void) { }
lock_struct(lru_lock) { int count; };
`,
			flags,
		),
	);
	EXPECT_STREQ(
		'sys_mlock |',
		names(
			'SYSCALL_DEFINE2(mlock, unsigned long, start, size_t, len)\n{\n}\n',
			'#define SYSCALL_DEFINE2(name, ...) struct s_##name;\n',
		),
	);
});

TEST('a_macro_that_calls_itself_comes_to_an_end', () => {
	const twice = '#define more(a) more(a##x) more(a##y)\n';
	EXPECT_STREQ('done more |', names(`${twice}more(z)\nint done(void) { }\n`));
	const [macro] = readC('#define F(a, ...) a##_##__VA_ARGS__ a\n').macros;
	ASSERT_EQ('F', macro?.name);
	EXPECT_STREQ('x_y , z x', expand(macro!, [['x'], ['y', ',', 'z']]).join(' '));
	EXPECT_STREQ('_', expand(macro!, [[], []]).join(' '));
});

TEST('an_index_is_read_as_it_was_written', () => {
	const text = 'name\tv1.0\tv2.0\na\tmm/a.c mm/b.c\t-\nb\tmm/b.c\n';
	const index = parseNameIndex(text);
	EXPECT_STREQ('mm/b.c mm/b.c', (index.places.get('b') ?? []).flat().join(' '));
	EXPECT_EQ(0, index.places.get('a')?.[1]?.length);
	EXPECT_STREQ(text, formatNameIndex(index));
});

interface Trees {
	root: string;
}

const trees = FIXTURE('trees', (): Trees => ({ root: '' }));

/** One small tree, by path and text. */
function plant(root: string, files: Readonly<Record<string, string>>): string {
	for (const [path, text] of Object.entries(files)) {
		mkdirSync(dirname(join(root, path)), { recursive: true });
		writeFileSync(join(root, path), text);
	}
	return root;
}

FIXTURE_SETUP(trees, (self) => {
	self.root = mkdtempSync(join(tmpdir(), 'kernel-names-'));
	plant(join(self.root, 'old'), {
		Makefile: 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n',
		'mm/rmap.c': 'void rmap_walk(void)\n{\n}\nvoid gone(void) { }\n',
		'include/linux/rmap.h': 'void rmap_walk(void);\nvoid asm_only(void);\n',
		'drivers/pci/p2pdma.c': 'int distance(void) { }\n',
		'drivers/net/other.c': 'void rmap_walk(void) { }\n',
	});
	plant(join(self.root, 'new'), {
		Makefile: 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n',
		'mm/deep/rmap.c': '#include "x.h"\nvoid rmap_walk(void) { }\n',
	});
});

FIXTURE_TEARDOWN(trees, (self) => {
	rmSync(self.root, { recursive: true });
});

TEST_F(trees, 'each_release_has_its_own_files', (self) => {
	const index = buildNameIndex(
		[kernelTree(join(self.root, 'old')), kernelTree(join(self.root, 'new'))],
		{
			names: new Set(['rmap_walk', 'gone', 'asm_only', 'distance', 'nowhere']),
			files: new Set(['drivers/pci/p2pdma.c']),
		},
	);
	EXPECT_STREQ(
		`name	v6.12	v7.3
asm_only	include/linux/rmap.h	-
distance	drivers/pci/p2pdma.c	-
drivers/pci/p2pdma.c	drivers/pci/p2pdma.c	-
gone	mm/rmap.c	-
nowhere	-
rmap_walk	mm/rmap.c	mm/deep/rmap.c
`,
		formatNameIndex(index),
	);
});

TEST_F(trees, 'wrong_sources_are_told_in_one_line', async (self) => {
	const old = join(self.root, 'old');
	const mistakes = [
		{ args: ['--kernel', join(self.root, 'none')], says: "is no kernel's tree" },
		{ args: ['--kernel', old], says: 'the index needs the sources of v7.3 too' },
		{ args: ['--kernels', old], says: "Unknown option '--kernels'" },
	];
	for (const { args, says } of mistakes) {
		const { code, out, err } = await called(main, args);
		EXPECT_EQ(2, code);
		EXPECT_STREQ('', out);
		EXPECT_TRUE(err.includes(says));
		EXPECT_EQ(1, err.split('\n').length - 1);
	}
	plant(self.root, { Makefile: 'all:\n' });
	EXPECT_TRUE((await called(main, ['--kernel', self.root])).err.includes('no release'));
	EXPECT_TRUE((await called(main, ['--help'])).out.startsWith('usage: kproto lint'));
});

TEST(
	'the_index_is_what_the_kernels_sources_say',
	() => {
		const given = process.env['KPROTO_KERNELS'];
		if (given === undefined) SKIP('KPROTO_KERNELS names no sources');
		const root = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');
		const wanted = wantedOf(openProject(root), root);
		const made = buildNameIndex(given!.split(delimiter).map(kernelTree), wanted);
		const there = readNameIndex();
		for (const [name, places] of made.places)
			EXPECT_STREQ(`${name}: ${places}`, `${name}: ${there.places.get(name)}`);
		EXPECT_EQ(made.places.size, there.places.size);
	},
	{ speed: 'slow' },
);
