/* Nothing can be reached where nothing is mapped any more. */
static int gone(const char *at, size_t length)
{
	const char *end = at + length;
	uint64_t word;

	if (length > 2 * MB)
		at = end - 2 * MB;
	errno = EADDRINUSE;
	for (; at < end; at += PAGE) {
		if (load_word(at, &word) != SIGSEGV)
			return -1;
	}
	return 0;
}
