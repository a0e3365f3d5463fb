#define DAX "/sys/bus/dax/devices/"

/* What daxctl create-device does; at a place, or where there is room. */
static int create_dax(size_t size, size_t align, size_t at)
{
	char device[64] = "", path[PATH_MAX], text[64];
	glob_t all;
	FILE *seed;

	if (glob(DAX "*/size", 0, NULL, &all))
		return -1;
	for (size_t i = 0; i < all.gl_pathc && !device[0]; i++) {
		if (!number(all.gl_pathv[i]))
			sscanf(all.gl_pathv[i], DAX "%63[^/]", device);
	}
	globfree(&all);
	if (!device[0]) {
		if (put(DAX "dax0.0/../dax_region/create", "1"))
			return -1;
		seed = fopen(DAX "dax0.0/../dax_region/seed", "r");
		if (!seed || fscanf(seed, "%63s", device) != 1)
			return -1;
		fclose(seed);
	}
	snprintf(path, sizeof(path), DAX "%s/align", device);
	snprintf(text, sizeof(text), "%zu", align);
	if (put(path, text))
		return -1;
	snprintf(path, sizeof(path), DAX "%s/%s", device, at ? "mapping" : "size");
	if (at)
		snprintf(text, sizeof(text), "%zx-%zx", at, at + size - 1);
	else
		snprintf(text, sizeof(text), "%zu", size);
	if (put(path, text))
		return -1;
	snprintf(path, sizeof(path), DAX "%s/driver", device);
	if (!access(path, F_OK))
		return 0;
	return put("/sys/bus/dax/drivers/device_dax/bind", device);
}
