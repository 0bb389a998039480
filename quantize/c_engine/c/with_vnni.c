/* What follows is the former file once more, with AVX-VNNI. */
#define WITH_VNNI
