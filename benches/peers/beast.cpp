// beast HOST PORT ROOM: a client of the server of benches/common, which does what it is told, line by line, on its standard
// input: `round_trip N`, `paced N`, `one_way N SIZE`, `echoes N` or `flood N SIZE`. It answers each with one line: the seconds of
// each round trip, or the messages a second.
//
// Of the clients in C++, this is Boost.Beast with blocking calls. Debian has it in `libboost-dev`, it needs no library to link,
// and most programs in C++ have Boost already. Its blocking calls are the closest to this library's: they run on the caller's
// thread, with neither a loop of events nor a thread of their own. The options are Beast's defaults but for two: TCP_NODELAY,
// which all others set as well, and each message in one frame, because the server counts frames. A larger buffer for writing
// than the default made no difference to messages of 1 MiB. There is no compression, which Beast has off by default.

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

static const std::size_t IN_FLIGHT = 1024;

static void check(bool is_right) {
    if (!is_right) {
        std::cerr << "beast: not what the server should have sent\n";
        std::exit(1);
    }
}

class Line {
public:
    Line(const std::string &host, const std::string &port, const std::string &room) : socket(context) {
        tcp::resolver resolver(context);
        asio::connect(socket.next_layer(), resolver.resolve(host, port));
        socket.next_layer().set_option(tcp::no_delay(true));
        socket.auto_fragment(false);
        socket.handshake(host + ":" + port, "/" + room);
        socket.read_message_max(0);
    }

    void send(const std::string &payload) {
        socket.binary(true);
        socket.write(asio::buffer(payload));
    }

    void ask(const std::string &text) {
        socket.text(true);
        socket.write(asio::buffer(text));
    }

    /// The length of the message that arrives next.
    std::size_t receive() {
        buffer.clear();
        return socket.read(buffer);
    }

    /// The number in the text that arrives next.
    std::size_t number() {
        receive();
        return std::stoul(beast::buffers_to_string(buffer.data()));
    }

private:
    asio::io_context context;
    beast::websocket::stream<tcp::socket> socket;
    beast::flat_buffer buffer;
};

static double seconds(const std::function<void()> &work) {
    const auto start = Clock::now();
    work();
    return std::chrono::duration<double>(Clock::now() - start).count();
}

static void round_trips(Line &line, std::size_t count, std::chrono::milliseconds pause) {
    const std::string payload(64, '\7');
    std::vector<double> times;
    while (times.size() < count) {
        if (pause.count() > 0) {
            std::this_thread::sleep_for(pause);
        }
        times.push_back(seconds([&] {
            line.send(payload);
            check(line.receive() == payload.size());
        }));
    }
    for (const double time : times) {
        std::cout << time << ' ';
    }
}

static void one_way(Line &line, std::size_t count, std::size_t size) {
    const std::string payload(size, '\7');
    line.ask("?");
    const std::size_t before = line.number();
    std::cout << static_cast<double>(count) / seconds([&] {
        for (std::size_t n = 0; n < count; n++) {
            line.send(payload);
        }
        line.ask("?");
        check(line.number() - before == count);
    });
}

static void echoes(Line &line, std::size_t count) {
    const std::string payload(64, '\7');
    std::cout << static_cast<double>(count) / seconds([&] {
        for (std::size_t n = 0; n < IN_FLIGHT; n++) {
            line.send(payload);
        }
        for (std::size_t n = 0; n < count; n++) {
            check(line.receive() == payload.size());
            if (n + IN_FLIGHT < count) {
                line.send(payload);
            }
        }
    });
}

static void flood(Line &line, std::size_t count, std::size_t size) {
    std::cout << static_cast<double>(count) / seconds([&] {
        line.ask(std::to_string(size) + " " + std::to_string(count));
        for (std::size_t n = 0; n < count; n++) {
            check(line.receive() == size);
        }
    });
}

int main(int argc, char **argv) {
    check(argc == 4);
    Line line(argv[1], argv[2], argv[3]);
    std::string order;
    while (std::getline(std::cin, order)) {
        std::istringstream words(order);
        std::string what;
        std::size_t count = 0;
        std::size_t size = 0;
        words >> what >> count >> size;
        if (what == "round_trip") {
            round_trips(line, count, std::chrono::milliseconds(0));
        } else if (what == "paced") {
            round_trips(line, count, std::chrono::milliseconds(2));
        } else if (what == "one_way") {
            one_way(line, count, size);
        } else if (what == "echoes") {
            echoes(line, count);
        } else {
            check(what == "flood");
            flood(line, count, size);
        }
        std::cout << std::endl;
    }
}
