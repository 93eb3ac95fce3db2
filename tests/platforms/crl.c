/*
 * Fetches a list of revoked certificates into the system's cache, where a check that does no traffic finds it: crl.exe URL
 *
 * x86_64-w64-mingw32-gcc -o crl.exe crl.c -lcryptnet -lcrypt32
 */
#include <windows.h>
#include <wincrypt.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    WCHAR url[256];
    PCCRL_CONTEXT list = NULL;

    if (argc != 2 || !MultiByteToWideChar(CP_ACP, 0, argv[1], -1, url, 256)) {
        fprintf(stderr, "usage: crl URL\n");
        return 2;
    }
    if (!CryptRetrieveObjectByUrlW(url, CONTEXT_OID_CRL, 0, 10000, (void **)&list, NULL, NULL, NULL, NULL)) {
        fprintf(stderr, "crl: %s: error 0x%08lx\n", argv[1], GetLastError());
        return 1;
    }
    CertFreeCRLContext(list);
    return 0;
}
