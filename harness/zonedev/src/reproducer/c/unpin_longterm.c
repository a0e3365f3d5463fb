static int unpin_longterm(int fd)
{
	int result = ioctl(fd, PIN_LONGTERM_TEST_STOP);

	close(fd);
	return result;
}
