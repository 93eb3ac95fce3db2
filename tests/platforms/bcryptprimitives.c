/* What Wine 8 lacks of bcryptprimitives.dll. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID bytes, ULONG length); /* RtlGenRandom */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length)
{
    while (length > 0) {
        ULONG some = length > 1 << 20 ? 1 << 20 : (ULONG)length;
        if (!SystemFunction036(bytes, some))
            return FALSE;
        bytes += some;
        length -= some;
    }
    return TRUE;
}
