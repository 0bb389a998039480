/* What follows is the former file once more, with the instructions of i8mm. */
#define WITH_I8MM
