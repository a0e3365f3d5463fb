/* memory_failure() of a frame, of which a signal may come. */
static int poison(const char *file, uint64_t base, off_t at)
{
	int sig = sigsetjmp(fault, 0);
	int result = 0;
	char frame[32];

	armed = !sig;
	errno = ECANCELED;
	if (!sig && at < 0) {
		result = -1;
	} else if (!sig) {
		snprintf(frame, sizeof(frame), "%#lx", (base + at) / PAGE);
		result = put(file, frame);
	}
	armed = 0;
	return sig ? sig : result;
}
