/* 0, or the signal that came of it. */
static int load_word(const char *at, uint64_t *word)
{
	int sig = sigsetjmp(fault, 0);

	armed = !sig;
	if (!sig)
		*word = *(const volatile uint64_t *)at;
	armed = 0;
	return sig;
}
