/* Loads a word of every page; the first signal is the answer. */
static int load(const char *at, size_t length)
{
	uint64_t word;
	int first = 0;

	for (const char *end = at + length; at < end; at += PAGE) {
		int sig = load_word(at, &word);

		first = first ? first : sig;
	}
	return first;
}
