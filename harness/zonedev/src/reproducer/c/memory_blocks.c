#define MEMORY "/sys/devices/system/memory/"

/* Takes the memory of a device-dax instance out of use, or back. */
static int memory_blocks(const char *device, const char *state)
{
	FILE *file = fopen(MEMORY "block_size_bytes", "r");
	char path[PATH_MAX];
	uint64_t first, size, block;
	int result = 0;

	if (!file || fscanf(file, "%lx", &block) != 1)
		return -1;
	fclose(file);
	snprintf(path, sizeof(path), "/sys/bus/dax/devices/%s/resource", device);
	first = number(path);
	snprintf(path, sizeof(path), "/sys/bus/dax/devices/%s/size", device);
	size = number(path);
	for (uint64_t n = first / block; n * block < first + size && !result; n++) {
		snprintf(path, sizeof(path), MEMORY "memory%lu/state", n);
		if (!access(path, F_OK))
			result = put(path, state);
		/* It is so already. */
		if (result && errno == EINVAL)
			result = 0;
	}
	return result;
}
