/* move_pages(2) without nodes says where pages are, if the kernel has it. */
static int ask_nodes(char *at, size_t length)
{
	size_t pages = length / PAGE;
	void **page = calloc(pages, sizeof(*page));
	int *status = calloc(pages, sizeof(*status));
	int result;

	for (size_t i = 0; i < pages; i++)
		page[i] = at + i * PAGE;
	result = syscall(SYS_move_pages, 0, pages, page, NULL, status, 0);
	free(page);
	free(status);
	return result < 0 && errno == ENOSYS ? 0 : result;
}
