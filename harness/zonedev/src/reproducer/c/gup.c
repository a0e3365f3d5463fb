/* gup_test takes the pages of a range and puts them again; it says how many bytes it took. */
static int gup(unsigned long command, char *at, size_t length)
{
	struct gup_test test = {
		.addr = (uintptr_t)at,
		.size = length,
		.nr_pages_per_call = length / PAGE,
		.which_pages = { command == DUMP_USER_PAGES_TEST },
	};
	int fd = open("/sys/kernel/debug/gup_test", O_RDWR), result;

	if (fd < 0)
		return -1;
	result = ioctl(fd, command, &test);
	close(fd);
	if (!result && test.size != length) {
		errno = ECANCELED;
		result = -1;
	}
	return result;
}
