/* Threads, mutexes and conditions of POSIX, or of Windows under the same names. */
#ifndef UE_THREADS_H
#define UE_THREADS_H

#ifdef _WIN32
#include <windows.h>

typedef HANDLE ue_thread;
typedef SRWLOCK ue_mutex;
typedef CONDITION_VARIABLE ue_condition;
typedef DWORD ue_thread_result;
#define UE_THREAD_CALL WINAPI

static inline int ue_mutex_init(ue_mutex *mutex) {
    InitializeSRWLock(mutex);
    return 0;
}
static inline void ue_mutex_destroy(ue_mutex *mutex) {
    (void)mutex;
}
static inline void ue_lock(ue_mutex *mutex) {
    AcquireSRWLockExclusive(mutex);
}
static inline int ue_try_lock(ue_mutex *mutex) {
    return TryAcquireSRWLockExclusive(mutex) != 0;
}
static inline void ue_unlock(ue_mutex *mutex) {
    ReleaseSRWLockExclusive(mutex);
}
static inline int ue_condition_init(ue_condition *condition) {
    InitializeConditionVariable(condition);
    return 0;
}
static inline void ue_condition_destroy(ue_condition *condition) {
    (void)condition;
}
static inline void ue_wait(ue_condition *condition, ue_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
/* Wait no longer than so; it may wake earlier. */
static inline void ue_wait_for(ue_condition *condition, ue_mutex *mutex, unsigned milliseconds) {
    SleepConditionVariableSRW(condition, mutex, milliseconds, 0);
}
static inline void ue_wake_all(ue_condition *condition) {
    WakeAllConditionVariable(condition);
}
static inline int ue_thread_start(ue_thread *thread, ue_thread_result(UE_THREAD_CALL *run)(void *),
                                  void *argument) {
    *thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    return *thread ? 0 : -1;
}
static inline void ue_thread_join(ue_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static inline void ue_yield(void) {
    SwitchToThread();
}
static inline long ue_process(void) {
    return (long)GetCurrentProcessId();
}
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

typedef pthread_t ue_thread;
typedef pthread_mutex_t ue_mutex;
typedef pthread_cond_t ue_condition;
typedef void *ue_thread_result;
#define UE_THREAD_CALL

static inline int ue_mutex_init(ue_mutex *mutex) {
    return pthread_mutex_init(mutex, NULL);
}
static inline void ue_mutex_destroy(ue_mutex *mutex) {
    pthread_mutex_destroy(mutex);
}
static inline void ue_lock(ue_mutex *mutex) {
    pthread_mutex_lock(mutex);
}
static inline int ue_try_lock(ue_mutex *mutex) {
    return pthread_mutex_trylock(mutex) == 0;
}
static inline void ue_unlock(ue_mutex *mutex) {
    pthread_mutex_unlock(mutex);
}
/* Timed by a clock that nobody sets, where the system lets one choose. */
static inline int ue_condition_init(ue_condition *condition) {
#ifdef __APPLE__
    return pthread_cond_init(condition, NULL);
#else
    pthread_condattr_t about;
    if (pthread_condattr_init(&about))
        return -1;
    const int failed =
        pthread_condattr_setclock(&about, CLOCK_MONOTONIC) || pthread_cond_init(condition, &about);
    pthread_condattr_destroy(&about);
    return failed;
#endif
}
static inline void ue_condition_destroy(ue_condition *condition) {
    pthread_cond_destroy(condition);
}
static inline void ue_wait(ue_condition *condition, ue_mutex *mutex) {
    pthread_cond_wait(condition, mutex);
}
/* Wait no longer than so; it may wake earlier. */
static inline void ue_wait_for(ue_condition *condition, ue_mutex *mutex, unsigned milliseconds) {
    struct timespec time;
#ifdef __APPLE__
    time.tv_sec = milliseconds / 1000;
    time.tv_nsec = (long)(milliseconds % 1000) * 1000000;
    pthread_cond_timedwait_relative_np(condition, mutex, &time);
#else
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += milliseconds / 1000;
    time.tv_nsec += (long)(milliseconds % 1000) * 1000000;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(condition, mutex, &time);
#endif
}
static inline void ue_wake_all(ue_condition *condition) {
    pthread_cond_broadcast(condition);
}
/* The host's signals stay with the host's threads. */
static inline int ue_thread_start(ue_thread *thread, ue_thread_result (*run)(void *),
                                  void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}
static inline void ue_thread_join(ue_thread thread) {
    pthread_join(thread, NULL);
}
static inline void ue_yield(void) {
    sched_yield();
}
static inline long ue_process(void) {
    return (long)getpid();
}
#endif

#endif
