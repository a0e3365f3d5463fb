static int failures;

static const char *name(int of)
{
	return of < 0 ? strsignal(-of) : of > 0 ? strerror(of) : "success";
}

/* A call comes to -1 and errno, the number of the signal that it raised, or 0. */
static void came(int line, const char *call, int result, int wanted)
{
	int got = result < 0 ? errno : -result;

	if (got == wanted)
		return;
	fprintf(stderr, "line %d: %s: %s, not %s\n", line, call, name(got),
		name(wanted));
	failures++;
}

#define expect(call, wanted) came(__LINE__, #call, call, wanted)
