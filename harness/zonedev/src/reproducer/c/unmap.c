static int unmap(char *at, size_t length)
{
	return munmap(at, length) ? -1 : gone(at, length);
}
