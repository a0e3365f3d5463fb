/* Every page must hold these words at its start and its end, those of the next page go on. */
static int verify(const char *at, size_t length, uint64_t head, uint64_t tail)
{
	int first = 0, wrong = 0;

	for (size_t page = 0; page < length / PAGE; page++, at += PAGE) {
		uint64_t found[2] = { 0, 0 };
		int sig = load_word(at, &found[0]);

		if (!sig)
			sig = load_word(at + PAGE - 8, &found[1]);
		first = first ? first : sig;
		if (!sig && (found[0] != head || found[1] != tail) && !wrong++)
			fprintf(stderr, "page %zu holds %#lx and %#lx, not %#lx and %#lx\n",
				page, found[0], found[1], head, tail);
		head += !!head;
		tail -= !!tail;
	}
	errno = EBADMSG;
	return first ? first : -!!wrong;
}
