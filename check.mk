# check.mk - the tests of the C core, as plain programs.
#
#   make check          as they are
#   make check-asan     under ASan and UBSan
#   make check-tsan     under TSan
#   make fuzz           each fuzzer of tests/fuzz for FUZZ_SECONDS
#
# Each flavour lies in build/c-<flavour>/: objects, libmdn.a, one program per
# tests/c/test_*.c, and a stamp per program that passed; so a run repeats only
# what has changed, and -j is safe.  The core is all of csrc that needs neither
# an interpreter nor a server.

CHECK_CC ?= gcc
FUZZ_CC ?= clang-14
FUZZ_SECONDS ?= 60

CHECK_FLAGS = -std=c11 -D_GNU_SOURCE -Icsrc -Itests/c -Itests/fuzz -pthread -g \
	-fno-omit-frame-pointer -fno-math-errno -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
	-Wstrict-prototypes -Wmissing-prototypes -Werror -MMD -MP
CHECK_flags_plain = -O2
CHECK_flags_asan = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
CHECK_flags_tsan = -O1 -fsanitize=thread
CHECK_flags_fuzz = -O1 -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all

CHECK_core := $(filter-out csrc/python/% csrc/metadata/postgres%.c \
	csrc/metadata/batch.c, $(sort $(wildcard csrc/*/*.c)))
CHECK_tests := $(sort $(wildcard tests/c/test_*.c))
CHECK_helpers := $(filter-out $(CHECK_tests), $(sort $(wildcard tests/c/*.c)))
CHECK_fuzzers := $(sort $(wildcard tests/fuzz/fuzz_*.c))

# Programs in which nothing runs on a second thread say nothing under TSan.
CHECK_alone_tsan := $(patsubst %,tests/c/test_%.c,damage dataset_faults link_faults schema sweep)

.PHONY: check check-asan check-tsan fuzz
check: check-plain

# $(1): flavour, $(2): compiler
define check_flavour
.PHONY: check-$(1)
check-$(1): $$(patsubst tests/c/%.c,build/c-$(1)/%.passed,$$(filter-out $$(CHECK_alone_$(1)),$$(CHECK_tests)))

build/c-$(1)/%.o: %.c
	@mkdir -p $$(@D)
	$(2) $$(CHECK_FLAGS) $$(CHECK_flags_$(1)) -c $$< -o $$@

# Made anew, so that it never holds the object of a file that is gone.
build/c-$(1)/libmdn.a: $$(CHECK_core:%.c=build/c-$(1)/%.o) \
		$$(CHECK_helpers:%.c=build/c-$(1)/%.o)
	@rm -f $$@
	ar rcs $$@ $$^

build/c-$(1)/%: build/c-$(1)/tests/c/%.o build/c-$(1)/libmdn.a
	$(2) $$(CHECK_flags_$(1)) -pthread $$^ -lm -ldl -o $$@

build/c-$(1)/%.passed: build/c-$(1)/%
	@rm -f $$@
	./$$<
	@touch $$@

-include $$(wildcard build/c-$(1)/*/*.d build/c-$(1)/*/*/*.d)
endef

$(eval $(call check_flavour,plain,$(CHECK_CC)))
$(eval $(call check_flavour,asan,$(CHECK_CC)))
$(eval $(call check_flavour,tsan,$(CHECK_CC)))
$(eval $(call check_flavour,fuzz,$(FUZZ_CC)))

.SECONDARY:

build/c-fuzz/fuzz_%: build/c-fuzz/tests/fuzz/fuzz_%.o build/c-fuzz/libmdn.a
	$(FUZZ_CC) $(CHECK_flags_fuzz) -fsanitize=fuzzer -pthread $^ -lm -ldl -o $@

# New inputs stay in build/; tests/fuzz/<name>/ is the corpus kept in git.
fuzz: $(CHECK_fuzzers:tests/fuzz/%.c=build/c-fuzz/%)
	@for program in $^; do \
		name=$$(basename $$program); \
		mkdir -p build/corpus/$$name; \
		./$$program -max_total_time=$(FUZZ_SECONDS) -timeout=20 \
			-rss_limit_mb=2048 -print_final_stats=1 \
			-artifact_prefix=build/corpus/$$name- \
			build/corpus/$$name tests/fuzz/$$name || exit 1; \
	done
