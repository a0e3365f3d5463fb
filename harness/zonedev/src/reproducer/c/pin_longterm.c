/* gup_test pins a range for writing, for long, until it is told to stop. */
static int pin_longterm(int *fd, char *at, size_t length)
{
	struct pin_longterm_test range = {
		.addr = (uintptr_t)at,
		.size = length,
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};

	*fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	if (*fd < 0)
		return -1;
	if (!ioctl(*fd, PIN_LONGTERM_TEST_START, &range))
		return 0;
	close(*fd);
	return -1;
}
