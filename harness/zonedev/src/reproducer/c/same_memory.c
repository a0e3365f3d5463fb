/* What was copied is what a load finds. */
static int same_memory(const char *at, size_t length, const char *copied)
{
	for (size_t i = 0; i < length; i += PAGE) {
		uint64_t head, tail;

		if (load_word(at + i, &head) ||
		    load_word(at + i + PAGE - 8, &tail) ||
		    memcmp(copied + i, &head, 8) ||
		    memcmp(copied + i + PAGE - 8, &tail, 8)) {
			errno = EBADMSG;
			return -1;
		}
	}
	return 0;
}
