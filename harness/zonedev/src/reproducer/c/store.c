/* Stores to every page, at its start or its end; the first signal is the answer. */
static int store(char *at, size_t length, uint64_t word, int where)
{
	int first = 0;

	for (char *end = at + length; at < end; at += PAGE, word++) {
		int sig = where & HEAD ? store_word(at, word) : 0;

		if (!sig && where & TAIL)
			sig = store_word(at + PAGE - 8, ~word);
		first = first ? first : sig;
	}
	return first;
}
