/* madvise(2) of which a signal may come. */
static int advise(char *at, size_t length, int advice)
{
	int sig = sigsetjmp(fault, 0);
	int result = 0;

	armed = !sig;
	if (!sig)
		result = madvise(at, length, advice);
	armed = 0;
	return sig ? sig : result;
}
