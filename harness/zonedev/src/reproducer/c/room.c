/* Addresses that are `offset` off a multiple of 2M, with nothing beside them. */
static void *room(size_t length, size_t offset)
{
	char *at = mmap(NULL, length + 4 * MB, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	at += PAGE;
	return at + ((offset - (uintptr_t)at) & (2 * MB - 1));
}
