static int close_device(int *fd)
{
	int was = *fd;

	*fd = -1;
	return close(was);
}
