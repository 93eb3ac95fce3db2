/*
 * Shows where this system differs from what Microsoft documents, by its own calls and without the library: gaps.exe LEAF CA
 *
 * LEAF and CA are DER files: a certificate that names no list of revoked ones, and the authority that has issued it and that
 * the system does not trust. Prints a line each, "A what: yes|no: what was seen". Ends with 0, or with 2 if it can't look.
 *
 *   A1  There is no TLS server.
 *   A2  A private key of PKCS#8 can't be read.
 *   A3  A server's refusal of the handshake is an internal error.
 *   B1  A certificate of a trusted authority is refused if nobody knows whether it was revoked.
 *   B2  A certificate whose issuer is missing is accepted.
 *   B3  There are no checks with roots of one's own alone.
 *   C   A read after a reset is the end, and no error.
 *   D   A shutdown does not wake a read in another thread. That is no gap: Windows is known for it, too.
 *
 * x86_64-w64-mingw32-gcc -o gaps.exe gaps.c -lsecur32 -lcrypt32 -lws2_32
 */
#define SECURITY_WIN32
#define _WIN32_WINNT 0x0602
#include <winsock2.h>
#include <windows.h>
#include <wincrypt.h>
#include <security.h>
#include <schannel.h>

#include <stdio.h>
#include <stdlib.h>

static void say(const char *what, int is_gap, const char *call, unsigned long seen)
{
    printf("%s: %s: %s gives 0x%08lx\n", what, is_gap ? "yes" : "no", call, seen);
    fflush(stdout);
}

static void give_up(const char *what, unsigned long error)
{
    fprintf(stderr, "gaps: %s: error 0x%08lx\n", what, error);
    exit(2);
}

/* A: what a TLS server takes. */

static SECURITY_STATUS credentials_for(unsigned long use, CredHandle *credentials)
{
    SCHANNEL_CRED wanted = {.dwVersion = SCHANNEL_CRED_VERSION};
    char name[] = UNISP_NAME_A;

    return AcquireCredentialsHandleA(NULL, name, use, NULL, &wanted, NULL, NULL, credentials, NULL);
}

static void tls_server(void)
{
    /* The beginning of a hello: an answer of a TLS server is that more has to come. */
    unsigned char hello[] = {0x16, 3, 1, 0, 0x40};
    SecBuffer in[2] = {{sizeof hello, SECBUFFER_TOKEN, hello}, {0, SECBUFFER_EMPTY, NULL}};
    SecBuffer out = {0, SECBUFFER_TOKEN, NULL};
    SecBufferDesc input = {SECBUFFER_VERSION, 2, in}, output = {SECBUFFER_VERSION, 1, &out};
    CredHandle credentials;
    CtxtHandle context;
    DWORD given;
    SECURITY_STATUS status;

    /* A server without a certificate may get no credentials. Then those of a client show whether there is such a call. */
    status = credentials_for(SECPKG_CRED_INBOUND, &credentials);
    if (status != SEC_E_OK) status = credentials_for(SECPKG_CRED_OUTBOUND, &credentials);
    if (status != SEC_E_OK) give_up("credentials", (unsigned long)status);
    status = AcceptSecurityContext(&credentials, NULL, &input, ASC_REQ_STREAM | ASC_REQ_ALLOCATE_MEMORY, 0, &context,
                                   &output, &given, NULL);
    say("A1 no TLS server", status == SEC_E_UNSUPPORTED_FUNCTION, "AcceptSecurityContext", (unsigned long)status);
    FreeCredentialsHandle(&credentials);
}

static void private_key(void)
{
    /* A version, rsaEncryption, and a key that is not looked at. */
    static const BYTE der[] = {0x30, 21, 2, 1, 0, 0x30, 13, 6, 9, 0x2a, 0x86, 0x48,
                               0x86, 0xf7, 13, 1, 1, 1, 5, 0, 4, 1, 0};
    CRYPT_PRIVATE_KEY_INFO *key = NULL;
    DWORD size = 0;
    BOOL done = CryptDecodeObjectEx(X509_ASN_ENCODING | PKCS_7_ASN_ENCODING, PKCS_PRIVATE_KEY_INFO, der, sizeof der,
                                    CRYPT_DECODE_ALLOC_FLAG, NULL, &key, &size);

    say("A2 no private key of PKCS#8", !done, "CryptDecodeObjectEx", done ? 0 : GetLastError());
    if (done) LocalFree(key);
}

static void refusal(void)
{
    /* The alert handshake_failure. */
    unsigned char alert[] = {0x15, 3, 3, 0, 2, 2, 40};
    char server[] = "localhost";
    SecBuffer in[2] = {{sizeof alert, SECBUFFER_TOKEN, alert}, {0, SECBUFFER_EMPTY, NULL}};
    SecBuffer out = {0, SECBUFFER_TOKEN, NULL};
    SecBufferDesc input = {SECBUFFER_VERSION, 2, in}, output = {SECBUFFER_VERSION, 1, &out};
    CredHandle credentials;
    CtxtHandle context;
    DWORD given, asked = ISC_REQ_STREAM | ISC_REQ_ALLOCATE_MEMORY;
    SECURITY_STATUS status = credentials_for(SECPKG_CRED_OUTBOUND, &credentials);

    if (status == SEC_E_OK)
        status = InitializeSecurityContextA(&credentials, NULL, server, asked, 0, 0, NULL, 0, &context, &output, &given, NULL);
    if (status != SEC_I_CONTINUE_NEEDED) give_up("a hello", (unsigned long)status);
    FreeContextBuffer(out.pvBuffer);
    out.pvBuffer = NULL;
    out.cbBuffer = 0;
    status = InitializeSecurityContextA(&credentials, &context, server, asked, 0, 0, &input, 0, NULL, &output, &given, NULL);
    say("A3 a refusal is an internal error", status == SEC_E_INTERNAL_ERROR, "InitializeSecurityContext",
        (unsigned long)status);
    FreeCredentialsHandle(&credentials);
}

/* B: how certificates are checked. */

#define CHECK "CertVerifyCertificateChainPolicy"

static PCCERT_CONTEXT certificate(const char *path)
{
    static BYTE der[8192];
    FILE *file = fopen(path, "rb");
    size_t length = file ? fread(der, 1, sizeof der, file) : 0;
    PCCERT_CONTEXT read = CertCreateCertificateContext(X509_ASN_ENCODING, der, (DWORD)length);

    if (file) fclose(file);
    if (!read) give_up(path, GetLastError());
    return read;
}

/* What the rules of TLS say of a certificate, with the certificates of a store and no traffic. */
static DWORD verdict(PCCERT_CONTEXT leaf, HCERTSTORE store, DWORD allowed)
{
    CERT_CHAIN_PARA wanted = {.cbSize = sizeof wanted};
    SSL_EXTRA_CERT_CHAIN_POLICY_PARA tls = {.cbSize = sizeof tls, .dwAuthType = AUTHTYPE_SERVER};
    CERT_CHAIN_POLICY_PARA policy = {.cbSize = sizeof policy, .pvExtraPolicyPara = &tls};
    CERT_CHAIN_POLICY_STATUS status = {.cbSize = sizeof status};
    DWORD look = CERT_CHAIN_REVOCATION_CHECK_CACHE_ONLY | CERT_CHAIN_REVOCATION_CHECK_CHAIN_EXCLUDE_ROOT;
    PCCERT_CHAIN_CONTEXT chain;

    if (!CertGetCertificateChain(NULL, leaf, NULL, store, &wanted, look, NULL, &chain)) give_up("a chain", GetLastError());
    policy.dwFlags = CERT_CHAIN_POLICY_IGNORE_ALL_REV_UNKNOWN_FLAGS | allowed;
    if (!CertVerifyCertificateChainPolicy(CERT_CHAIN_POLICY_SSL, chain, &policy, &status))
        give_up("a check", GetLastError());
    CertFreeCertificateChain(chain);
    return status.dwError;
}

static void roots_alone(HCERTSTORE store)
{
    /* Windows 8 has made this struct longer. */
    CERT_CHAIN_ENGINE_CONFIG wanted = {.cbSize = sizeof wanted, .hExclusiveRoot = store};
    HCERTCHAINENGINE engine;
    BOOL made = CertCreateCertificateChainEngine(&wanted, &engine);

    say("B3 no checks with roots of one's own alone", !made, "CertCreateCertificateChainEngine",
        made ? 0 : GetLastError());
    if (made) CertFreeCertificateChainEngine(engine);
}

static void certificates(const char *leaf_path, const char *ca_path)
{
    HCERTSTORE store = CertOpenStore(CERT_STORE_PROV_MEMORY, 0, 0, 0, NULL);
    PCCERT_CONTEXT leaf = certificate(leaf_path), ca = certificate(ca_path);
    DWORD alone = verdict(leaf, store, 0), unknown, trusted;

    if (!CertAddCertificateContextToStore(store, ca, CERT_STORE_ADD_ALWAYS, NULL)) give_up("a store", GetLastError());
    unknown = verdict(leaf, store, 0);
    if (unknown != (DWORD)CERT_E_UNTRUSTEDROOT) give_up("the authority is not unknown", unknown);
    trusted = verdict(leaf, store, CERT_CHAIN_POLICY_ALLOW_UNKNOWN_CA_FLAG);
    say("B1 what nobody knows to be revoked is refused", trusted != 0, CHECK, trusted);
    say("B2 what has no issuer is accepted", alone == 0, CHECK, alone);
    roots_alone(store);
    CertFreeCertificateContext(leaf);
    CertFreeCertificateContext(ca);
    CertCloseStore(store, 0);
}

/* C and D: sockets. */

/* The two ends of a connection. */
static void connection(SOCKET *ours, SOCKET *theirs)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int length = sizeof address;
    SOCKET listener = socket(AF_INET, SOCK_STREAM, 0);

    *ours = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
        connect(*ours, (struct sockaddr *)&address, length) != 0 ||
        (*theirs = accept(listener, NULL, NULL)) == INVALID_SOCKET)
        give_up("a connection", (unsigned long)WSAGetLastError());
    closesocket(listener);
}

static void after_a_reset(void)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    SOCKET ours, theirs;
    char byte;
    int read;

    connection(&ours, &theirs);
    setsockopt(theirs, SOL_SOCKET, SO_LINGER, (char *)&at_once, sizeof at_once);
    closesocket(theirs);
    read = recv(ours, &byte, 1, 0);
    say("C a read after a reset is no error", read == 0, "recv", read == 0 ? 0 : (unsigned long)WSAGetLastError());
    closesocket(ours);
}

static DWORD WINAPI reader(void *given)
{
    char byte;

    recv(*(SOCKET *)given, &byte, 1, 0);
    return 0;
}

static void a_reader_in_a_thread(void)
{
    SOCKET ours, theirs;
    HANDLE thread;
    DWORD waited;

    connection(&ours, &theirs);
    thread = CreateThread(NULL, 0, reader, &ours, 0, NULL);
    if (!thread) give_up("a thread", GetLastError());
    /* Nothing tells that it waits in its read. */
    Sleep(500);
    shutdown(ours, SD_RECEIVE);
    waited = WaitForSingleObject(thread, 2000);
    say("D a shutdown does not wake a read, as on Windows", waited == WAIT_TIMEOUT, "WaitForSingleObject", waited);
    closesocket(theirs);
    WaitForSingleObject(thread, 10000);
    CloseHandle(thread);
    closesocket(ours);
}

int main(int argc, char **argv)
{
    WSADATA data;

    if (argc != 3) {
        fprintf(stderr, "usage: gaps LEAF CA\n");
        return 2;
    }
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) give_up("sockets", 0);
    tls_server();
    private_key();
    refusal();
    certificates(argv[1], argv[2]);
    after_a_reset();
    a_reader_in_a_thread();
    return 0;
}
