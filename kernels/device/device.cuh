// The whole vocabulary.
#pragma once
#include "async_copy.cuh"
#include "matrix.cuh"
#include "numbers.cuh"
#include "platform.cuh"
#include "threads.cuh"
