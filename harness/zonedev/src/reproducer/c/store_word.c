static int store_word(char *at, uint64_t word)
{
	int sig = sigsetjmp(fault, 0);

	armed = !sig;
	if (!sig)
		*(volatile uint64_t *)at = word;
	armed = 0;
	return sig;
}
