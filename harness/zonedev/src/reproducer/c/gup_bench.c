/* gup_benchmark takes the pages of a range and puts them again; it says how many bytes it took. */
static int gup_bench(unsigned long command, char *at, size_t length)
{
	struct gup_benchmark test = {
		.addr = (uintptr_t)at,
		.size = length,
		.nr_pages_per_call = length / PAGE,
	};
	int fd = open("/sys/kernel/debug/gup_benchmark", O_RDWR), result;

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
