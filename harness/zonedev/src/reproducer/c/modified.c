enum { AT_ANY_TIME, LATER, NOT_LATER };

/* When the file was modified, against what was seen before. */
static int modified(const char *path, struct timespec *seen, int when)
{
	struct timespec was = *seen;
	struct stat stat_;
	int later;

	if (stat(path, &stat_))
		return -1;
	*seen = stat_.st_mtim;
	later = seen->tv_sec > was.tv_sec || (seen->tv_sec == was.tv_sec &&
					      seen->tv_nsec > was.tv_nsec);
	/* What is modified from here on is later, also by a clock of ticks. */
	usleep(40000);
	errno = ESTALE;
	return when && later != (when == LATER) ? -1 : 0;
}
